/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * System instructions: control and debug registers, MSRs, descriptor tables, I/O, SYSCALL and
 * friends (SDM vol. 2 and 3). Built with -mgeneral-regs-only.
 */
#include "cpuid_model.h"
#include "helpers.h"
#include "vcpu.h"

static bool canonical(uint64_t address)
{
    return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}

static void need_cpl0(struct vcpu *v)
{
    if (v->cpl) {
        raise_exception(v, EXC_GP, 0);
    }
}

/* --- I/O --- */

/* SDM vol. 1, 19.5: IOPL, else the TSS's I/O permission bitmap. */
void io_check(struct vcpu *v, uint16_t port, unsigned size)
{
    unsigned iopl = v->flags_sys >> 12 & 3;
    if (!(v->cr0 & CR0_PE) || (!(v->flags_sys & FLAG_VM) && v->cpl <= iopl)) {
        return;
    }
    const struct segment *tr = &v->seg[CPU_TR];
    if (!(tr->attr & 8) || tr->limit < 0x67) {
        raise_exception(v, EXC_GP, 0);
    }
    uint32_t map = mem_load(v, tr->base + 0x66, 2, cpu_implicit_index(v));
    if (map + port / 8 + 1 > tr->limit) {
        raise_exception(v, EXC_GP, 0);
    }
    uint32_t bits = mem_load(v, tr->base + map + port / 8, 2, cpu_implicit_index(v));
    if (bits >> (port & 7) & ((1u << size) - 1)) {
        raise_exception(v, EXC_GP, 0);
    }
}

uint64_t io_in(struct vcpu *v, uint16_t port, unsigned size)
{
    outside_begin(v);
    uint64_t value = v->engine->bus->port_read(v->engine->bus->opaque, port, size);
    outside_end(v);
    return value & mask_size(size);
}

void io_out(struct vcpu *v, uint16_t port, uint64_t value, unsigned size)
{
    outside_begin(v);
    v->engine->bus->port_write(v->engine->bus->opaque, port, value & mask_size(size), size);
    outside_end(v);
}

void helper_in(struct vcpu *v, uint64_t port, uint64_t size)
{
    io_check(v, port, size);
    debug_port_access(v, port, size);
    uint64_t value = io_in(v, port, size);
    v->gpr[CPU_RAX] = size == 4 ? value : (v->gpr[CPU_RAX] & ~mask_size(size)) | value;
}

void helper_out(struct vcpu *v, uint64_t port, uint64_t size)
{
    io_check(v, port, size);
    debug_port_access(v, port, size);
    io_out(v, port, v->gpr[CPU_RAX], size);
}

/* --- interrupts flag, halt --- */

void helper_cli(struct vcpu *v)
{
    if (v->cpl > (v->flags_sys >> 12 & 3)) {
        raise_exception(v, EXC_GP, 0);
    }
    v->flag_if = 0;
}

void helper_sti(struct vcpu *v)
{
    if (v->cpl > (v->flags_sys >> 12 & 3)) {
        raise_exception(v, EXC_GP, 0);
    }
    v->flag_if = 1;
    v->run = 0;
}

/* An interrupt waits: take it after one more instruction. */
void helper_sti_pending(struct vcpu *v, uint64_t next_rip)
{
    v->rip = next_rip;
    v->ret_pc = 0;
    v->shadow = true;
    cpu_leave(v);
}

void helper_hlt(struct vcpu *v, uint64_t next_rip)
{
    need_cpl0(v);
    v->rip = next_rip;
    v->ret_pc = 0;
    v->activity = CPU_HALTED;
    v->shadow = false;
    cpu_leave(v);
}

void helper_pushf(struct vcpu *v, uint64_t size)
{
    if ((v->flags_sys & FLAG_VM) && (v->flags_sys >> 12 & 3) < 3) {
        raise_exception(v, EXC_GP, 0);
    }
    struct stack s = stack_current(v);
    stack_push(v, &s, cpu_flags(v) & ~(uint64_t)(FLAG_VM | FLAG_RF), size);
    stack_commit(v, &s);
}

/* The block goes on where it was nothing but arithmetic flags and DF: who saves flags around a few
 * instructions changes no others. */
void helper_popf(struct vcpu *v, uint64_t size)
{
    uint64_t system_flags = v->flags_sys;
    uint8_t flag_if = v->flag_if;
    unsigned iopl = v->flags_sys >> 12 & 3;
    if ((v->flags_sys & FLAG_VM) && iopl < 3) {
        raise_exception(v, EXC_GP, 0);
    }
    struct stack s = stack_current(v);
    uint64_t image = stack_pop(v, &s, size), flags = cpu_flags(v);
    uint64_t keep = FLAG_VM | FLAG_VIF | FLAG_VIP | FLAG_RF;
    if (v->cpl > 0) {
        keep |= FLAG_IOPL;
    }
    if (v->cpl > iopl) {
        keep |= FLAG_IF;
    }
    if (size == 2) {
        keep |= 0xffff0000;
    }
    stack_commit(v, &s);
    cpu_set_flags(v, ((flags & keep) | (image & ~keep)) & ~(uint64_t)FLAG_RF);
    if (v->flag_if && v->irq_waiting) {
        v->run = 0;
    }
    if (v->flags_sys != system_flags || v->flag_if != flag_if || !v->run) {
        v->rip = cpu_next_rip(v);
        v->ret_pc = 0;
        cpu_resume(v);
    }
}

/* --- control registers --- */

static void segments_update(struct vcpu *v)
{
    for (unsigned i = 0; i < 6; i++) {
        segment_update(v, i);
    }
}

static void efer_activate(struct vcpu *v, uint64_t cr0)
{
    if (!(v->efer & EFER_LME)) {
        return;
    }
    if ((cr0 & CR0_PG) && !(v->cr0 & CR0_PG)) {
        if (!(v->cr4 & CR4_PAE) || (v->seg[CPU_CS].attr & SEG_L)) {
            raise_exception(v, EXC_GP, 0);
        }
        v->efer |= EFER_LMA;
    } else if (!(cr0 & CR0_PG)) {
        if (v->seg[CPU_CS].attr & SEG_L && (v->efer & EFER_LMA)) {
            raise_exception(v, EXC_GP, 0);
        }
        v->efer &= ~(uint64_t)EFER_LMA;
    }
}

static void write_cr0(struct vcpu *v, uint64_t value)
{
    value = (value & 0xe005003fu) | CR0_ET;
    if (((value & CR0_PG) && !(value & CR0_PE)) || ((value & CR0_NW) && !(value & CR0_CD))) {
        raise_exception(v, EXC_GP, 0);
    }
    if ((v->cr0 & CR0_PG) && !(value & CR0_PG) && (v->cr4 & CR4_PCIDE)) {
        raise_exception(v, EXC_GP, 0);
    }
    uint64_t changed = v->cr0 ^ value;
    if ((value & CR0_PG) && (changed & CR0_PG) && !(v->efer & EFER_LME) && (v->cr4 & CR4_PAE) &&
        !pdptes_load(v, v->cr3)) {
        raise_exception(v, EXC_GP, 0);
    }
    efer_activate(v, value);
    v->cr0 = value;
    if ((changed & CR0_PG) || ((value & CR0_PG) && (changed & CR0_WP))) {
        tlb_flush_all(v); /* not for PE alone: firmware changes it for every disk request */
    }
    if (changed & CR0_PE) {
        v->cpl = 0;
        segments_update(v);
    }
}

static void write_cr3(struct vcpu *v, uint64_t value)
{
    bool keep = false;
    if (v->cr4 & CR4_PCIDE) {
        keep = value >> 63;
        value &= ~(1ull << 63);
    }
    if (cpu_long_active(v) && (value >> PHYS_BITS)) {
        raise_exception(v, EXC_GP, 0);
    }
    if ((v->cr0 & CR0_PG) && (v->cr4 & CR4_PAE) && !cpu_long_active(v) && !pdptes_load(v, value)) {
        raise_exception(v, EXC_GP, 0);
    }
    v->cr3 = value;
    tlb_load_cr3(v, value, keep);
}

static void write_cr4(struct vcpu *v, uint64_t value)
{
    uint64_t changed = v->cr4 ^ value;
    bool bad = value & ~cpuid_cr4_mask();
    bad |= cpu_long_active(v) && !(value & CR4_PAE);
    bad |= (changed & value & CR4_PCIDE) && (!cpu_long_active(v) || (v->cr3 & 0xfff));
    if (bad) {
        raise_exception(v, EXC_GP, 0);
    }
    uint64_t paging = CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP;
    if ((v->cr0 & CR0_PG) && !cpu_long_active(v) && (value & CR4_PAE) && (changed & paging) &&
        !pdptes_load(v, v->cr3)) {
        raise_exception(v, EXC_GP, 0);
    }
    v->cr4 = value;
    if (changed & paging) {
        tlb_flush_all(v);
    }
}

uint64_t helper_read_cr(struct vcpu *v, uint64_t n)
{
    need_cpl0(v);
    switch (n) {
    case 0:
        return v->cr0;
    case 2:
        return v->cr2;
    case 3:
        return v->cr3;
    case 4:
        return v->cr4;
    case 8: {
        outside_begin(v);
        uint64_t value = v->engine->bus->tpr_read(v->engine->bus->opaque, v->index);
        outside_end(v);
        return value;
    }
    default:
        raise_exception(v, EXC_UD, 0);
    }
}

void helper_write_cr(struct vcpu *v, uint64_t n, uint64_t value)
{
    need_cpl0(v);
    if (!cpu_long_active(v)) {
        value = (uint32_t)value;
    }
    switch (n) {
    case 0:
        if (value >> 32) {
            raise_exception(v, EXC_GP, 0);
        }
        write_cr0(v, value);
        break;
    case 2:
        v->cr2 = value;
        break;
    case 3:
        write_cr3(v, value);
        break;
    case 4:
        write_cr4(v, value);
        break;
    case 8:
        if (value & ~15ull) {
            raise_exception(v, EXC_GP, 0);
        }
        outside_begin(v);
        v->engine->bus->tpr_write(v->engine->bus->opaque, v->index, value);
        outside_end(v);
        break;
    default:
        raise_exception(v, EXC_UD, 0);
    }
}

void helper_clts(struct vcpu *v)
{
    need_cpl0(v);
    v->cr0 &= ~(uint64_t)CR0_TS;
}

uint64_t helper_umip(struct vcpu *v)
{
    if ((v->cr4 & CR4_UMIP) && v->cpl) {
        raise_exception(v, EXC_GP, 0);
    }
    return 0;
}

uint64_t helper_smsw(struct vcpu *v)
{
    helper_umip(v);
    return v->cr0;
}

void helper_lmsw(struct vcpu *v, uint64_t value)
{
    need_cpl0(v);
    value &= 15;
    write_cr0(v, (v->cr0 & ~0xeull) | value | (v->cr0 & CR0_PE));
}

/* --- debug registers --- */

static unsigned debug_number(struct vcpu *v, unsigned n)
{
    need_cpl0(v);
    if (n == 4 || n == 5) {
        if (v->cr4 & CR4_DE) {
            raise_exception(v, EXC_UD, 0);
        }
        n += 2;
    }
    if (n > 7) {
        raise_exception(v, EXC_UD, 0);
    }
    if (v->dr7 & 1u << 13) {
        v->dr6 |= 1u << 13;
        raise_exception(v, EXC_DB, 0);
    }
    return n;
}

uint64_t helper_read_dr(struct vcpu *v, uint64_t n)
{
    n = debug_number(v, n);
    return n < 4 ? v->dr[n] : n == 6 ? v->dr6 : v->dr7;
}

void helper_write_dr(struct vcpu *v, uint64_t n, uint64_t value)
{
    n = debug_number(v, n);
    if (n >= 6 && value >> 32) {
        raise_exception(v, EXC_GP, 0);
    }
    if (n < 4) {
        v->dr[n] = value;
    } else if (n == 6) {
        v->dr6 = (value & 0xe00f) | 0xffff0ff0;
    } else {
        bool was = v->dr7 & 0xff;
        v->dr7 = (value & 0xffff2bff) | 0x400;
        if (was != ((v->dr7 & 0xff) != 0)) {
            tlb_flush_all(v);
        }
    }
}

/* --- tables --- */

void helper_load_table(struct vcpu *v, uint64_t linear, uint64_t packed)
{
    need_cpl0(v);
    unsigned size = packed & 0xff;
    enum mmu_index index = cpu_mmu_index(v);
    uint16_t limit = mem_load(v, linear, 2, index);
    uint64_t base = mem_load(v, linear + 2, size == 8 ? 8 : 4, index);
    if (size == 2) {
        base &= 0xffffff;
    }
    if (size == 8 && !canonical(base)) {
        raise_exception(v, EXC_GP, 0);
    }
    if (packed & 0x100) {
        v->idtr_base = base;
        v->idtr_limit = limit;
    } else {
        v->gdtr_base = base;
        v->gdtr_limit = limit;
    }
}

void helper_store_table(struct vcpu *v, uint64_t linear, uint64_t packed)
{
    helper_umip(v);
    bool idt = packed & 0x100;
    enum mmu_index index = cpu_mmu_index(v);
    mem_check_write(v, linear, 2 + (packed & 0xff), index);
    mem_store(v, linear, idt ? v->idtr_limit : v->gdtr_limit, 2, index);
    mem_store(v, linear + 2, idt ? v->idtr_base : v->gdtr_base, packed & 0xff, index);
}

uint64_t helper_sldt(struct vcpu *v, uint64_t tr)
{
    helper_umip(v);
    return v->seg[tr ? CPU_TR : CPU_LDTR].selector;
}

void helper_lldt(struct vcpu *v, uint64_t selector)
{
    need_cpl0(v);
    segment_load_ldt(v, selector);
}

void helper_ltr(struct vcpu *v, uint64_t selector)
{
    need_cpl0(v);
    segment_load_tr(v, selector);
}

void helper_invlpg(struct vcpu *v, uint64_t linear)
{
    need_cpl0(v);
    tlb_flush_page(v, linear);
}

void helper_invpcid(struct vcpu *v, uint64_t linear, uint64_t type)
{
    need_cpl0(v);
    uint64_t pcid = mem_load(v, linear, 8, cpu_mmu_index(v));
    uint64_t address = mem_load(v, linear + 8, 8, cpu_mmu_index(v));
    if (type > 3 || pcid >> 12 || (type < 2 && !(v->cr4 & CR4_PCIDE) && pcid) ||
        (type == 0 && !canonical(address))) {
        raise_exception(v, EXC_GP, 0);
    }
    unsigned current = v->cr4 & CR4_PCIDE ? v->cr3 & 0xfff : 0;
    switch (type) {
    case 0:
        if (pcid == current) {
            tlb_flush_page(v, address);
        } else {
            tlb_pcid_flush(v, pcid);
        }
        break;
    case 1:
        if (pcid == current) {
            tlb_flush_nonglobal(v);
        } else {
            tlb_pcid_flush(v, pcid);
        }
        break;
    default:
        tlb_flush_all(v);
    }
}

void helper_privileged(struct vcpu *v)
{
    need_cpl0(v);
}

void helper_swapgs(struct vcpu *v)
{
    if (!cpu_long_active(v) || !(v->seg[CPU_CS].attr & SEG_L)) {
        raise_exception(v, EXC_UD, 0);
    }
    need_cpl0(v);
    uint64_t base = v->seg[CPU_GS].base;
    v->seg[CPU_GS].base = v->kernel_gs_base;
    v->kernel_gs_base = base;
}

void helper_stac(struct vcpu *v, uint64_t on)
{
    if (v->cpl) {
        raise_exception(v, EXC_UD, 0);
    }
    v->flags_sys = on ? v->flags_sys | FLAG_AC : v->flags_sys & ~(uint64_t)FLAG_AC;
}

uint64_t helper_base(struct vcpu *v, uint64_t packed, uint64_t value)
{
    unsigned seg = packed & 0xff, size = packed >> 16;
    if (!(v->cr4 & CR4_FSGSBASE) || !cpu_long_active(v)) {
        raise_exception(v, EXC_UD, 0);
    }
    if (!(packed & 0x100)) {
        return v->seg[seg].base;
    }
    value &= mask_size(size);
    if (!canonical(value)) {
        raise_exception(v, EXC_GP, 0);
    }
    v->seg[seg].base = value;
    return value;
}

void helper_xgetbv(struct vcpu *v)
{
    if (!(v->cr4 & CR4_OSXSAVE)) {
        raise_exception(v, EXC_UD, 0);
    }
    if ((uint32_t)v->gpr[CPU_RCX]) {
        raise_exception(v, EXC_GP, 0);
    }
    v->gpr[CPU_RAX] = (uint32_t)v->xcr0;
    v->gpr[CPU_RDX] = v->xcr0 >> 32;
}

void helper_xsetbv(struct vcpu *v)
{
    if (!(v->cr4 & CR4_OSXSAVE)) {
        raise_exception(v, EXC_UD, 0);
    }
    need_cpl0(v);
    uint64_t value = (uint32_t)v->gpr[CPU_RAX] | v->gpr[CPU_RDX] << 32;
    if ((uint32_t)v->gpr[CPU_RCX] || !(value & 1) || (value & ~cpuid_xcr0_mask()) ||
        (value & 6) == 4) {
        raise_exception(v, EXC_GP, 0);
    }
    v->xcr0 = value;
}

uint64_t helper_rdpid(struct vcpu *v)
{
    return v->tsc_aux;
}

/* --- time and identification --- */

uint64_t cpu_guest_tsc(struct vcpu *v)
{
    if (v->tsc_host) {
        return __builtin_ia32_rdtsc() + v->tsc_offset + v->tsc_adjust;
    }
    fpu_save(v);
    uint64_t tsc = clock_tsc(v->engine->clock);
    fpu_load(v);
    return tsc + v->tsc_adjust;
}

void helper_rdtsc(struct vcpu *v, uint64_t with_aux)
{
    if ((v->cr4 & CR4_TSD) && v->cpl) {
        raise_exception(v, EXC_GP, 0);
    }
    uint64_t tsc = cpu_guest_tsc(v);
    v->gpr[CPU_RAX] = (uint32_t)tsc;
    v->gpr[CPU_RDX] = tsc >> 32;
    if (with_aux) {
        v->gpr[CPU_RCX] = (uint32_t)v->tsc_aux;
    }
}

void helper_cpuid(struct vcpu *v)
{
    uint32_t r[4];
    cpuid_guest(v, v->gpr[CPU_RAX], v->gpr[CPU_RCX], r);
    v->gpr[CPU_RAX] = r[0];
    v->gpr[CPU_RBX] = r[1];
    v->gpr[CPU_RCX] = r[2];
    v->gpr[CPU_RDX] = r[3];
}

/* --- MSRs --- */

enum {
    MSR_TSC = 0x10,
    MSR_PLATFORM_ID = 0x17,
    MSR_APIC_BASE = 0x1b,
    MSR_FEATURE_CONTROL = 0x3a,
    MSR_TSC_ADJUST = 0x3b,
    MSR_SPEC_CTRL = 0x48,
    MSR_PRED_CMD = 0x49,
    MSR_UCODE_WRITE = 0x79,
    MSR_UCODE_REV = 0x8b,
    MSR_MTRRCAP = 0xfe,
    MSR_ARCH_CAP = 0x10a,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_MCG_CAP = 0x179,
    MSR_MCG_STATUS = 0x17a,
    MSR_MISC_ENABLE = 0x1a0,
    MSR_DEBUGCTL = 0x1d9,
    MSR_MTRR_BASE = 0x200,
    MSR_PAT = 0x277,
    MSR_MTRR_DEF = 0x2ff,
    MSR_TSC_DEADLINE = 0x6e0,
    MSR_EFER = 0xc0000080,
    MSR_STAR,
    MSR_LSTAR,
    MSR_CSTAR,
    MSR_FMASK,
    MSR_FS_BASE = 0xc0000100,
    MSR_GS_BASE,
    MSR_KERNEL_GS,
    MSR_TSC_AUX
};

/* The "not affected" bits of IA32_ARCH_CAPABILITIES: guest code runs translated. */
#define ARCH_CAPABILITIES                                                                          \
    ((1ull << 0) | (1ull << 1) | (1ull << 3) | (1ull << 4) | (1ull << 5) | (1ull << 6) |           \
     (1ull << 8) | (1ull << 13) | (1ull << 14) | (1ull << 15) | (1ull << 20) | (1ull << 24) |      \
     (1ull << 26) | (1ull << 27) | (1ull << 62))

static uint64_t *msr_simple(struct vcpu *v, uint32_t msr)
{
    switch (msr) {
    case MSR_TSC_ADJUST:
        return &v->tsc_adjust;
    case MSR_SPEC_CTRL:
        return &v->spec_ctrl;
    case MSR_SYSENTER_CS:
        return &v->sysenter_cs;
    case MSR_SYSENTER_ESP:
        return &v->sysenter_esp;
    case MSR_SYSENTER_EIP:
        return &v->sysenter_eip;
    case MSR_MISC_ENABLE:
        return &v->misc_enable;
    case MSR_PAT:
        return &v->pat;
    case MSR_MTRR_DEF:
        return &v->mtrr_def_type;
    case MSR_STAR:
        return &v->star;
    case MSR_LSTAR:
        return &v->lstar;
    case MSR_CSTAR:
        return &v->cstar;
    case MSR_FMASK:
        return &v->fmask;
    case MSR_FS_BASE:
        return &v->seg[CPU_FS].base;
    case MSR_GS_BASE:
        return &v->seg[CPU_GS].base;
    case MSR_KERNEL_GS:
        return &v->kernel_gs_base;
    case MSR_TSC_AUX:
        return &v->tsc_aux;
    default:
        break;
    }
    if (msr >= MSR_MTRR_BASE && msr < MSR_MTRR_BASE + 2 * CPU_MTRRS) {
        unsigned i = (msr - MSR_MTRR_BASE) / 2;
        return msr & 1 ? &v->mtrr_mask[i] : &v->mtrr_base[i];
    }
    if (msr == 0x250) {
        return &v->mtrr_fixed[0];
    }
    if (msr == 0x258 || msr == 0x259) {
        return &v->mtrr_fixed[msr - 0x257];
    }
    if (msr >= 0x268 && msr <= 0x26f) {
        return &v->mtrr_fixed[msr - 0x265];
    }
    return NULL;
}

static bool msr_is_apic(uint32_t msr)
{
    return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE || (msr >= 0x800 && msr < 0x900);
}

static bool apic_msr(struct vcpu *v, uint32_t msr, uint64_t *value, bool write)
{
    const struct cpu_bus *bus = v->engine->bus;
    outside_begin(v);
    bool ok = write ? bus->apic_msr_write(bus->opaque, v->index, msr, *value)
                    : bus->apic_msr_read(bus->opaque, v->index, msr, value);
    outside_end(v);
    return ok;
}

static bool msr_read(struct vcpu *v, uint32_t msr, uint64_t *value)
{
    uint64_t *simple = msr_simple(v, msr);
    if (simple) {
        *value = *simple;
        return true;
    }
    if (msr_is_apic(msr)) {
        return apic_msr(v, msr, value, false);
    }
    switch (msr) {
    case MSR_TSC:
        *value = cpu_guest_tsc(v);
        return true;
    case MSR_EFER:
        *value = v->efer;
        return true;
    case MSR_FEATURE_CONTROL:
        *value = 1;
        return true;
    case MSR_MTRRCAP:
        *value = 0x500 | CPU_MTRRS;
        return true;
    case MSR_ARCH_CAP:
        *value = ARCH_CAPABILITIES;
        return true;
    case MSR_UCODE_REV:
        *value = 1ull << 32;
        return true;
    case MSR_PLATFORM_ID:
    case MSR_MCG_CAP:
    case MSR_MCG_STATUS:
    case MSR_DEBUGCTL:
        *value = 0;
        return true;
    default:
        return false;
    }
}

static bool efer_write(struct vcpu *v, uint64_t value)
{
    if (value & ~(uint64_t)(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)) {
        return false;
    }
    if ((v->cr0 & CR0_PG) && ((v->efer ^ value) & EFER_LME)) {
        return false;
    }
    uint64_t changed = v->efer ^ value;
    v->efer = (value & ~(uint64_t)EFER_LMA) | (v->efer & EFER_LMA);
    if (changed & EFER_NXE) {
        tlb_flush_all(v);
    }
    return true;
}

static bool pat_valid(uint64_t value)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned type = value >> 8 * i & 0xff;
        if (type > 7 || type == 2 || type == 3) {
            return false;
        }
    }
    return true;
}

static bool msr_value_ok(uint32_t msr, uint64_t value)
{
    switch (msr) {
    case MSR_LSTAR:
    case MSR_CSTAR:
    case MSR_FS_BASE:
    case MSR_GS_BASE:
    case MSR_KERNEL_GS:
    case MSR_SYSENTER_ESP:
    case MSR_SYSENTER_EIP:
        return canonical(value);
    case MSR_PAT:
        return pat_valid(value);
    case MSR_SPEC_CTRL:
        return !(value & ~7ull);
    case MSR_TSC_AUX:
    case MSR_FMASK:
        return !(value >> 32);
    default:
        return true;
    }
}

static bool msr_write(struct vcpu *v, uint32_t msr, uint64_t value)
{
    uint64_t *simple = msr_simple(v, msr);
    if (simple) {
        if (!msr_value_ok(msr, value)) {
            return false;
        }
        *simple = value;
        return true;
    }
    if (msr_is_apic(msr)) {
        return apic_msr(v, msr, &value, true);
    }
    switch (msr) {
    case MSR_TSC:
        v->tsc_adjust += value - cpu_guest_tsc(v);
        return true;
    case MSR_EFER:
        return efer_write(v, value);
    case MSR_PRED_CMD:
        return !(value & ~1ull);
    case MSR_UCODE_WRITE:
    case MSR_UCODE_REV:
    case MSR_MCG_STATUS:
        return true;
    case MSR_DEBUGCTL:
        return value == 0;
    default:
        return false;
    }
}

void helper_rdmsr(struct vcpu *v)
{
    need_cpl0(v);
    uint64_t value = 0;
    if (!msr_read(v, v->gpr[CPU_RCX], &value)) {
        raise_exception(v, EXC_GP, 0);
    }
    v->gpr[CPU_RAX] = (uint32_t)value;
    v->gpr[CPU_RDX] = value >> 32;
}

void helper_wrmsr(struct vcpu *v)
{
    need_cpl0(v);
    uint64_t value = (uint32_t)v->gpr[CPU_RAX] | v->gpr[CPU_RDX] << 32;
    if (!msr_write(v, v->gpr[CPU_RCX], value)) {
        raise_exception(v, EXC_GP, 0);
    }
}

/* --- fast system calls --- */

static void flat_code(struct vcpu *v, uint16_t selector, unsigned cpl, bool long_code)
{
    struct descriptor d = {.limit = 0xffffffff,
                           .attr =
                               0x9b | cpl << SEG_DPL_SHIFT | SEG_G | (long_code ? SEG_L : SEG_DB)};
    v->cpl = cpl;
    segment_set(v, CPU_CS, (selector & ~3) | cpl, &d);
}

static void flat_stack(struct vcpu *v, uint16_t selector, unsigned cpl)
{
    struct descriptor d = {.limit = 0xffffffff,
                           .attr = 0x93 | cpl << SEG_DPL_SHIFT | SEG_G | SEG_DB};
    segment_set(v, CPU_SS, (selector & ~3) | cpl, &d);
}

/* SYSCALL and SYSRET: a single-step trap follows if TF is set at their end. */
static void step_by_new_flags(struct vcpu *v)
{
    bool step = v->flags_sys & FLAG_TF;
    v->pending_dr6 = (v->pending_dr6 & ~(uint32_t)DR6_BS) | (step ? DR6_BS : 0);
    v->single_pending = v->pending_dr6 != 0;
}

static _Noreturn void go(struct vcpu *v, uint64_t rip)
{
    v->rip = rip;
    v->ret_pc = 0;
    if (v->flag_if && v->irq_waiting) {
        v->run = 0;
    }
    cpu_resume(v);
}

/* 64-bit mode only, as on Intel processors. */
void helper_syscall(struct vcpu *v, uint64_t next_rip)
{
    v->count.syscalls++;
    if (!(v->efer & EFER_SCE) || !cpu_long_active(v) || !(v->seg[CPU_CS].attr & SEG_L)) {
        raise_exception(v, EXC_UD, 0);
    }
    uint64_t flags = cpu_flags(v);
    v->gpr[CPU_RCX] = next_rip;
    v->gpr[11] = flags & ~(uint64_t)FLAG_RF;
    cpu_set_flags(v, flags & ~v->fmask & ~(uint64_t)FLAG_RF);
    step_by_new_flags(v);
    uint16_t cs = v->star >> 32;
    flat_code(v, cs, 0, true);
    flat_stack(v, cs + 8, 0);
    go(v, v->lstar);
}

void helper_sysret(struct vcpu *v, uint64_t size)
{
    if (!(v->efer & EFER_SCE) || !cpu_long_active(v) || !(v->seg[CPU_CS].attr & SEG_L)) {
        raise_exception(v, EXC_UD, 0);
    }
    need_cpl0(v);
    uint64_t rip = v->gpr[CPU_RCX];
    uint16_t base = v->star >> 48;
    if (size == 8 && !canonical(rip)) {
        raise_exception(v, EXC_GP, 0);
    }
    cpu_set_flags(v, (v->gpr[11] & 0x3c7fd7) | 2);
    step_by_new_flags(v);
    flat_code(v, size == 8 ? base + 16 : base, 3, size == 8);
    flat_stack(v, base + 8, 3);
    go(v, size == 8 ? rip : (uint32_t)rip);
}

void helper_sysenter(struct vcpu *v)
{
    if (!(v->cr0 & CR0_PE) || !(v->sysenter_cs & 0xfffc)) {
        raise_exception(v, EXC_GP, 0);
    }
    bool wide = cpu_long_active(v);
    cpu_set_flags(v, cpu_flags(v) & ~(uint64_t)(FLAG_VM | FLAG_IF | FLAG_RF));
    v->gpr[CPU_RSP] = wide ? v->sysenter_esp : (uint32_t)v->sysenter_esp;
    flat_code(v, v->sysenter_cs, 0, wide);
    flat_stack(v, v->sysenter_cs + 8, 0);
    go(v, wide ? v->sysenter_eip : (uint32_t)v->sysenter_eip);
}

void helper_sysexit(struct vcpu *v, uint64_t size)
{
    if (!(v->cr0 & CR0_PE) || v->cpl || !(v->sysenter_cs & 0xfffc)) {
        raise_exception(v, EXC_GP, 0);
    }
    bool wide = size == 8;
    uint64_t rip = v->gpr[CPU_RDX], rsp = v->gpr[CPU_RCX];
    if (wide && (!canonical(rip) || !canonical(rsp))) {
        raise_exception(v, EXC_GP, 0);
    }
    flat_code(v, v->sysenter_cs + (wide ? 32 : 16), 3, wide);
    flat_stack(v, v->sysenter_cs + (wide ? 40 : 24), 3);
    v->gpr[CPU_RSP] = wide ? rsp : (uint32_t)rsp;
    go(v, wide ? rip : (uint32_t)rip);
}
