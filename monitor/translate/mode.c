/* SPDX-License-Identifier: GPL-2.0-or-later */
/* EFLAGS in and out of their split form, and the mode flags of the current state. Built with
 * -mgeneral-regs-only. */
#include "cpu.h"

uint64_t cpu_flags(const struct vcpu *v)
{
    return (v->flags_ax >> 8 & 0xd5) | 2 | (v->flags_ax & 1) << 11 | (uint64_t)v->flag_df << 10 |
           (uint64_t)v->flag_if << 9 | v->flags_sys;
}

void cpu_set_flags(struct vcpu *v, uint64_t flags)
{
    v->flags_ax = (flags & 0xd5) << 8 | (flags >> 11 & 1);
    v->flag_df = flags >> 10 & 1;
    v->flag_if = flags >> 9 & 1;
    v->flags_sys = flags & (FLAG_TF | FLAG_IOPL | FLAG_NT | FLAG_RF | FLAG_VM | FLAG_AC | FLAG_VIF |
                            FLAG_VIP | FLAG_ID);
}

static uint32_t mode_fpu(const struct vcpu *v)
{
    bool avx = (v->cr4 & CR4_OSXSAVE) && (v->xcr0 & 6) == 6;
    return (v->cr0 & CR0_TS ? MODE_TS : 0) | (v->cr0 & CR0_EM ? MODE_EM : 0) |
           (v->cr0 & CR0_MP ? MODE_MP : 0) | (v->cr4 & CR4_OSFXSR ? MODE_OSFXSR : 0) |
           (avx ? MODE_AVX : 0);
}

static uint32_t mode_segments(const struct vcpu *v)
{
    uint32_t mode = (v->seg[CPU_CS].attr & SEG_DB ? MODE_D32 : 0) |
                    (v->seg[CPU_SS].attr & SEG_DB ? MODE_SS32 : 0);
    for (unsigned i = 0; i < 4; i++) {
        const struct segment *s = &v->seg[i];
        if (s->base == 0 && s->limit_read == INT64_MAX &&
            (i == CPU_CS || s->limit_write == INT64_MAX)) {
            mode |= MODE_FLAT << i;
        }
    }
    return mode;
}

uint32_t cpu_mode(const struct vcpu *v)
{
    uint32_t mode = v->cpl | mode_fpu(v) | (uint32_t)cpu_mmu_index(v) << MODE_MMU_SHIFT;
    mode |= v->cr0 & CR0_PE ? MODE_PE : 0;
    if (cpu_long_active(v) && (v->seg[CPU_CS].attr & SEG_L)) {
        mode |= MODE_LONG;
        mode |= v->space || (v->cpl < 3 && v->windows && (v->cr4 & CR4_PGE) && (v->cr0 & CR0_PG))
                    ? MODE_WINDOW
                    : 0;
    } else {
        mode |= mode_segments(v) | (v->flags_sys & FLAG_VM ? MODE_VM : 0);
    }
    unsigned iopl = v->flags_sys >> 12 & 3;
    mode |=
        !(v->cr0 & CR0_PE) || (v->flags_sys & FLAG_VM ? iopl == 3 : v->cpl <= iopl) ? MODE_IOPL : 0;
    mode |= v->flags_sys & FLAG_TF ? MODE_TF : 0;
    mode |= v->dr7 & 0xff ? MODE_DEBUG : 0;
    mode |= v->cpl == 3 && (v->cr0 & CR0_AM) && (v->flags_sys & FLAG_AC) ? MODE_AC : 0;
    return mode;
}
