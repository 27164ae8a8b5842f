/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's x87/SSE/AVX state lives in the host's registers while guest code runs. Here it is put
 * away and brought back, and the guest's own FXSAVE/XSAVE family is carried out (with the
 * instruction and data pointers cleared: the host's would tell host addresses). Built with
 * -mgeneral-regs-only.
 */
#include "cpuid_model.h"
#include "helpers.h"
#include "vcpu.h"

static uint64_t state_mask(void)
{
    return cpuid_xcr0_mask();
}

void fpu_save(struct vcpu *v)
{
    uint64_t mask = state_mask();
    if (mask) {
        __asm__ volatile("xsave64 %0" : "=m"(v->xsave) : "a"((uint32_t)mask), "d"(0) : "memory");
    } else {
        __asm__ volatile("fxsave64 %0" : "=m"(v->xsave));
    }
    static const uint32_t mxcsr = 0x1f80;
    __asm__ volatile("fninit; ldmxcsr %0" : : "m"(mxcsr));
}

void fpu_load(struct vcpu *v)
{
    uint64_t mask = state_mask();
    if (mask) {
        __asm__ volatile("xrstor64 %0" : : "m"(v->xsave), "a"((uint32_t)mask), "d"(0) : "memory");
    } else {
        __asm__ volatile("fxrstor64 %0" : : "m"(v->xsave));
    }
}

void outside_begin(struct vcpu *v)
{
    fpu_save(v);
    atomic_store(&v->outside, true);
}

void outside_end(struct vcpu *v)
{
    atomic_store(&v->outside, false);
    if (atomic_load(&v->requests) & (REQ_FLUSH | REQ_CODE | REQ_DIRTY)) {
        cpu_service(v);
    }
    fpu_load(v);
}

static void clear_pointers(uint8_t *area)
{
    for (unsigned i = 8; i < 24; i++) {
        area[i] = 0;
    }
}

void helper_fxsave(struct vcpu *v, uint64_t linear, uint64_t packed)
{
    if (linear & 15) {
        raise_exception(v, EXC_GP, 0);
    }
    enum mmu_index index = cpu_mmu_index(v);
    mem_check_write(v, linear, 512, index);
    __asm__ volatile("fxsave64 %0" : "=m"(v->xsave_tmp));
    clear_pointers(v->xsave_tmp);
    mem_store_bytes(v, linear, v->xsave_tmp, 416, index);
}

void helper_fxrstor(struct vcpu *v, uint64_t linear, uint64_t packed)
{
    if (linear & 15) {
        raise_exception(v, EXC_GP, 0);
    }
    mem_load_bytes(v, linear, v->xsave_tmp, 512, cpu_mmu_index(v));
    clear_pointers(v->xsave_tmp);
    uint32_t mxcsr;
    __builtin_memcpy(&mxcsr, v->xsave_tmp + 24, 4);
    if (mxcsr & ~0xffffu) {
        raise_exception(v, EXC_GP, 0);
    }
    __asm__ volatile("fxrstor64 %0" : : "m"(v->xsave_tmp));
}

static void xsave_check(struct vcpu *v, uint64_t linear)
{
    if (!(v->cr4 & CR4_OSXSAVE)) {
        raise_exception(v, EXC_UD, 0);
    }
    if (v->cr0 & CR0_TS) {
        raise_exception(v, EXC_NM, 0);
    }
    if (linear & 63) {
        raise_exception(v, EXC_GP, 0);
    }
}

/* Standard format (SDM vol. 1, 13.4): x87 at 0, SSE at 160, header at 512, AVX at 576. */
void helper_xsave(struct vcpu *v, uint64_t linear, uint64_t packed)
{
    xsave_check(v, linear);
    enum mmu_index index = cpu_mmu_index(v);
    uint64_t want = ((uint32_t)v->gpr[0] | v->gpr[2] << 32) & v->xcr0, bv;
    mem_check_write(v, linear, 576, index);
    uint64_t *t = (uint64_t *)v->xsave_tmp;
    for (unsigned i = 64; i < 72; i++) {
        t[i] = 0;
    }
    __asm__ volatile("xsave64 %0" : "=m"(v->xsave_tmp) : "a"((uint32_t)want), "d"(0) : "memory");
    clear_pointers(v->xsave_tmp);
    bv = mem_load(v, linear + 512, 8, index);
    bv = (bv & ~want) | (t[64] & want);
    if (want & 1) {
        mem_store_bytes(v, linear, v->xsave_tmp, 24, index);
        mem_store_bytes(v, linear + 32, v->xsave_tmp + 32, 128, index);
    }
    if (want & 6) {
        mem_store_bytes(v, linear + 24, v->xsave_tmp + 24, 8, index);
    }
    if (want & 2) {
        mem_store_bytes(v, linear + 160, v->xsave_tmp + 160, 256, index);
    }
    if (want & 4) {
        mem_store_bytes(v, linear + 576, v->xsave_tmp + 576, 256, index);
    }
    mem_store(v, linear + 512, bv, 8, index);
}

void helper_xrstor(struct vcpu *v, uint64_t linear, uint64_t packed)
{
    xsave_check(v, linear);
    enum mmu_index index = cpu_mmu_index(v);
    uint64_t want = ((uint32_t)v->gpr[0] | v->gpr[2] << 32) & v->xcr0;
    mem_load_bytes(v, linear, v->xsave_tmp, want & 4 ? 832 : 576, index);
    uint64_t *t = (uint64_t *)v->xsave_tmp;
    bool bad = (t[64] & ~v->xcr0) || t[65];
    for (unsigned i = 66; i < 72; i++) {
        bad |= t[i] != 0;
    }
    uint32_t mxcsr;
    __builtin_memcpy(&mxcsr, v->xsave_tmp + 24, 4);
    if (bad || ((want & 6) && (mxcsr & ~0xffffu))) {
        raise_exception(v, EXC_GP, 0);
    }
    clear_pointers(v->xsave_tmp);
    __asm__ volatile("xrstor64 %0" : : "m"(v->xsave_tmp), "a"((uint32_t)want), "d"(0) : "memory");
}

static uint8_t *ymm_low(uint8_t *area, unsigned n)
{
    return area + 160 + 16 * n;
}

/* Byte `at` of YMM register n in an XSAVE image. */
static uint8_t *ymm_at(uint8_t *area, unsigned n, unsigned at)
{
    return at < 16 ? ymm_low(area, n) + at : area + 576 + 16 * n + at - 16;
}

static uint64_t ymm_get(uint8_t *area, unsigned n, unsigned at, unsigned size)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++) {
        value |= (uint64_t)*ymm_at(area, n, at + i) << 8 * i;
    }
    return value;
}

static void ymm_put(uint8_t *area, unsigned n, unsigned at, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        *ymm_at(area, n, at + i) = value >> 8 * i;
    }
}

/* The guest's vector registers, to be looked at and changed; vectors_put puts them back. */
static uint8_t *vectors_get(struct vcpu *v)
{
    uint8_t *area = v->xsave_tmp;
    uint64_t *words = (uint64_t *)area;
    for (unsigned i = 64; i < 72; i++) {
        words[i] = 0;
    }
    __asm__ volatile("xsave64 %0" : "=m"(v->xsave_tmp) : "a"(7), "d"(0) : "memory");
    for (unsigned i = 576; i < 832 && !(words[64] & 4); i++) {
        area[i] = 0;
    }
    for (unsigned i = 160; i < 416 && !(words[64] & 2); i++) {
        area[i] = 0;
    }
    return area;
}

static void vectors_put(struct vcpu *v)
{
    ((uint64_t *)v->xsave_tmp)[64] |= 6;
    __asm__ volatile("xrstor64 %0" : : "m"(v->xsave_tmp), "a"(7), "d"(0) : "memory");
}

/* VMASKMOV, VPMASKMOV: elements that are masked out are not accessed at all. Faults come before any
 * change. */
void helper_masked_move(struct vcpu *v, uint64_t linear, uint64_t packed)
{
    unsigned reg = packed & 15, mask = packed >> 4 & 15, size = packed & 1 << 8 ? 8 : 4,
             n = (packed & 1 << 9 ? 32 : 16) / size;
    bool store = packed & 1 << 10;
    enum mmu_index index = cpu_mmu_index(v);
    uint64_t value[8] = {0}, limit = cpu_long_active(v) ? ~0ull : UINT32_MAX;
    uint8_t *area = vectors_get(v);
    for (unsigned i = 0; i < n; i++) {
        if (!(ymm_get(area, mask, i * size, size) >> (size * 8 - 1))) {
            continue;
        }
        if (store) {
            mem_check_write(v, (linear + i * size) & limit, size, index);
        } else {
            value[i] = mem_load(v, (linear + i * size) & limit, size, index);
        }
    }
    for (unsigned i = 0; i < n && store; i++) {
        if (ymm_get(area, mask, i * size, size) >> (size * 8 - 1)) {
            mem_store(v, (linear + i * size) & limit, ymm_get(area, reg, i * size, size), size,
                      index);
        }
    }
    if (store) {
        return;
    }
    for (unsigned i = 0; i < 32 / size; i++) {
        ymm_put(area, reg, i * size, i < n ? value[i] : 0, size);
    }
    vectors_put(v);
}

/* All loads are made before any register changes, so a fault restarts it from the beginning. */
void helper_gather(struct vcpu *v, uint64_t base, uint64_t packed)
{
    unsigned dst = packed & 15, index = packed >> 4 & 15, mask = packed >> 8 & 15,
             scale = packed >> 12 & 15;
    unsigned isize = packed & 1 << 16 ? 8 : 4, dsize = packed & 1 << 17 ? 8 : 4,
             bytes = packed & 1 << 18 ? 32 : 16;
    unsigned seg = packed >> 20 & 7, width = packed >> 24 & 15;
    unsigned big = isize > dsize ? isize : dsize, n = bytes / big;
    uint8_t *area = vectors_get(v);
    uint64_t loaded[8];
    for (unsigned i = 0; i < n; i++) {
        loaded[i] = ymm_get(area, dst, i * dsize, dsize);
        if (ymm_get(area, mask, i * dsize, dsize) >> (dsize * 8 - 1)) {
            uint64_t ix = ymm_get(area, index, i * isize, isize);
            int64_t sx = isize == 4 ? (int32_t)ix : (int64_t)ix;
            uint64_t at = (base + sx * scale) & mask_size(width);
            uint64_t segbase = (v->seg[CPU_CS].attr & SEG_L) && cpu_long_active(v) && seg < CPU_FS
                                   ? 0
                                   : v->seg[seg].base;
            at += segbase;
            loaded[i] =
                mem_load(v, cpu_long_active(v) ? at : (uint32_t)at, dsize, cpu_mmu_index(v));
        }
    }
    for (unsigned i = 0; i < 32; i++) {
        *ymm_at(area, mask, i) = 0;
        *ymm_at(area, dst, i) = i < n * dsize ? *ymm_at(area, dst, i) : 0;
    }
    for (unsigned i = 0; i < n; i++) {
        ymm_put(area, dst, i * dsize, loaded[i], dsize);
    }
    vectors_put(v);
}
