/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What ends a 64-bit guest's turns most often, carried out on the run page: CPUID, HLT, the APIC's
 * MSRs, and MOV from or to a device's memory. The translator takes and leaves a whole state and
 * makes code for each instruction, which costs many times more; it does whatever is not
 * recognised here, and everything with consequences (single steps, breakpoints, faults).
 *
 * Another CPU may change code and page tables meanwhile. The code is read once, and an access goes
 * where the processor has said, if what was read leads there, too; so the worst that a guest can
 * make of that is another access to its own devices.
 */
#include <string.h>

#include "driver.h"

#define CODE_MAX       15u
#define EFER_LMA       (1u << 10)
#define ATTRIBUTE_L    0x200u /* in a run page's attributes */
#define RFLAGS_TF      0x100u
#define RFLAGS_RF      0x10000u
#define DR7_ENABLED    0xffu
#define ENTRY_PRESENT  1u
#define ENTRY_ACCESSED 0x20u
#define ENTRY_DIRTY    0x40u
#define ENTRY_LARGE    0x80u
#define ENTRY_ADDRESS  0x000ffffffffff000ull
#define MSR_DEADLINE   0x6e0u
#define REX_W          8u
#define REX_R          4u
#define REX_X          2u
#define REX_B          1u

/* --- memory --- */

/* `size` bytes within a page of RAM or ROM. */
static bool physical_read(const struct driver_cpu *v, uint64_t gpa, void *to, size_t size)
{
    struct page_info page;

    memory_lookup_page(v->engine->memory, gpa, &page);
    if (!page.read) {
        return false;
    }
    memcpy(to, page.read + gpa % GUEST_PAGE_SIZE, size);
    return true;
}

/* Where 4-level page tables lead. False as well if the processor would have to set a bit in an
 * entry: all those on the way must have `bits`, and the last one `last`. */
static bool translate(const struct driver_cpu *v, uint64_t linear, uint64_t last, uint64_t *gpa)
{
    uint64_t entry = v->run->state.cr3;

    for (unsigned level = 3;; level--) {
        unsigned shift = 12 + 9 * level;
        uint64_t size = 1ull << shift, at = (entry & ENTRY_ADDRESS) + (linear >> shift & 511) * 8;
        bool end;

        if (!physical_read(v, at, &entry, sizeof entry)) {
            return false;
        }
        end = level == 0 || (entry & ENTRY_LARGE);
        if ((entry & (ENTRY_PRESENT | ENTRY_ACCESSED)) != (ENTRY_PRESENT | ENTRY_ACCESSED) ||
            (end && (level == 3 || (entry & last) != last))) {
            return false;
        }
        if (end) {
            *gpa = (entry & ENTRY_ADDRESS & ~(size - 1)) | (linear & (size - 1));
            return true;
        }
    }
}

/* --- code --- */

struct code {
    uint8_t byte[CODE_MAX];
    unsigned size, at; /* what there is, and what has been read */
    bool short_of;     /* something was to be read that there is not */
};

/* What lies at RIP, up to the end of its page. */
static bool code_read(const struct driver_cpu *v, struct code *code)
{
    uint64_t rip = v->run->state.rip, gpa;

    *code = (struct code){.size = MIN(CODE_MAX, GUEST_PAGE_SIZE - rip % GUEST_PAGE_SIZE)};
    return translate(v, rip, 0, &gpa) && physical_read(v, gpa, code->byte, code->size);
}

static uint8_t code_byte(struct code *code)
{
    if (code->at == code->size) {
        code->short_of = true;
        return 0;
    }
    return code->byte[code->at++];
}

/* Of 1, 2 or 4 bytes, with its sign. */
static uint64_t code_number(struct code *code, unsigned size)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < size; i++) {
        value |= (uint32_t)code_byte(code) << 8 * i;
    }
    return size == 1   ? (uint64_t)(int8_t)value
           : size == 2 ? (uint64_t)(int16_t)value
                       : (uint64_t)(int32_t)value;
}

/* A MOV between memory and a register or a number. */
struct mov {
    unsigned size, reg;
    bool write, number;
    uint64_t address, value;
};

/* ModRM and what follows, for 64-bit addresses; `after`: bytes of a number behind it. */
static uint64_t address_decode(struct code *code, const struct ringside_state *s, unsigned rex,
                               uint8_t modrm, unsigned after)
{
    unsigned mod = modrm >> 6, base = modrm & 7;
    uint64_t address = 0;

    if (base == 4) {
        uint8_t sib = code_byte(code);
        unsigned index = (sib >> 3 & 7) | (rex & REX_X ? 8 : 0);

        base = sib & 7;
        address = index == 4 ? 0 : s->gpr[index] << (sib >> 6);
        if (base == 5 && mod == 0) {
            return address + code_number(code, 4);
        }
    } else if (base == 5 && mod == 0) {
        address = code_number(code, 4);
        return address + s->rip + code->at + after;
    }
    address += s->gpr[base | (rex & REX_B ? 8 : 0)];
    return mod == 0 ? address : address + code_number(code, mod == 1 ? 1 : 4);
}

/* 88-8B and C6-C7; prefixes: 66, FS, GS, REX. */
static bool mov_decode(struct code *code, const struct ringside_state *s, struct mov *mov)
{
    uint64_t base = 0;
    bool word = false;
    unsigned rex = 0, number;
    uint8_t byte, modrm;

    while ((byte = code_byte(code)) == 0x66 || byte == 0x64 || byte == 0x65) {
        word |= byte == 0x66;
        base = byte == 0x64   ? s->seg[RINGSIDE_FS].base
               : byte == 0x65 ? s->seg[RINGSIDE_GS].base
                              : base;
    }
    if (byte >> 4 == 4) {
        rex = byte;
        byte = code_byte(code);
    }
    mov->number = byte >> 1 == 0xc6 >> 1;
    if (byte >> 2 != 0x88 >> 2 && !mov->number) {
        return false;
    }
    mov->write = mov->number || !(byte & 2);
    mov->size = !(byte & 1) ? 1 : rex & REX_W ? 8 : word ? 2 : 4;
    number = mov->number ? MIN(mov->size, 4) : 0;
    modrm = code_byte(code);
    mov->reg = (modrm >> 3 & 7) | (rex & REX_R ? 8 : 0);
    if (modrm >> 6 == 3 ||
        (mov->number ? (modrm >> 3 & 7) != 0 : mov->size == 1 && !rex && mov->reg >= 4)) {
        return false; /* no memory, another instruction, or AH to BH */
    }
    mov->address = base + address_decode(code, s, rex, modrm, number);
    mov->value = mov->number ? code_number(code, number) : s->gpr[mov->reg];
    return !code->short_of;
}

/* --- instructions --- */

static void done(struct ringside_state *s, uint64_t rip)
{
    s->rip = rip;
    s->rflags &= ~(uint64_t)RFLAGS_RF;
    s->interrupt_shadow = 0;
}

static bool cpuid(struct driver_cpu *v)
{
    struct ringside_state *s = &v->run->state;
    uint32_t out[4];

    driver_cpuid(v, (uint32_t)s->gpr[CPU_RAX], (uint32_t)s->gpr[CPU_RCX], out);
    s->gpr[CPU_RAX] = out[0];
    s->gpr[CPU_RBX] = out[1];
    s->gpr[CPU_RCX] = out[2];
    s->gpr[CPU_RDX] = out[3];
    return true;
}

/* What the APIC refuses raises an exception: not here. */
static bool msr(struct driver_cpu *v, bool write)
{
    const struct cpu_bus *bus = v->engine->bus;
    struct ringside_state *s = &v->run->state;
    uint32_t number = (uint32_t)s->gpr[CPU_RCX];
    uint64_t value = (uint32_t)s->gpr[CPU_RAX] | s->gpr[CPU_RDX] << 32;

    if (s->cpl || (number != MSR_DEADLINE && number >> 8 != 8)) {
        return false;
    }
    if (write) {
        return bus->apic_msr_write(bus->opaque, v->index, number, value);
    }
    if (!bus->apic_msr_read(bus->opaque, v->index, number, &value)) {
        return false;
    }
    s->gpr[CPU_RAX] = (uint32_t)value;
    s->gpr[CPU_RDX] = value >> 32;
    return true;
}

static bool halt(struct driver_cpu *v)
{
    if (v->run->state.cpl) {
        return false;
    }
    v->rest->activity = CPU_HALTED;
    return true;
}

static bool instruction(struct driver_cpu *v, struct code *code)
{
    struct ringside_state *s = &v->run->state;
    uint8_t first = code_byte(code), second = first == 0x0f ? code_byte(code) : 0;
    uint64_t next = s->rip + code->at;
    bool did = first == 0xf4    ? halt(v)
               : second == 0xa2 ? cpuid(v)
               : second == 0x30 ? msr(v, true)
               : second == 0x32 ? msr(v, false)
                                : false;

    if (did) {
        done(s, next);
    }
    return did;
}

/* A register after a load: 32 bits clear the others, 8 and 16 keep them. */
static uint64_t loaded(uint64_t before, uint64_t value, unsigned size)
{
    if (size == 4) {
        return (uint32_t)value;
    }
    memcpy(&before, &value, size);
    return before;
}

static bool device_access(struct driver_cpu *v, struct code *code)
{
    const struct cpu_bus *bus = v->engine->bus;
    struct ringside_run *run = v->run;
    struct ringside_state *s = &run->state;
    uint64_t at = run->memory.gpa, gpa;
    struct mov mov;

    if (!mov_decode(code, s, &mov) || mov.write != !!run->memory.write || (at & (mov.size - 1)) ||
        !translate(v, mov.address, mov.write ? ENTRY_DIRTY : 0, &gpa) || gpa != at) {
        return false;
    }
    if (mov.write) {
        bus->mmio_write(bus->opaque, v->index, at,
                        mov.size == 8 ? mov.value : mov.value & ((1ull << 8 * mov.size) - 1),
                        mov.size);
    } else {
        uint64_t value = bus->mmio_read(bus->opaque, v->index, at, mov.size);
        s->gpr[mov.reg] = loaded(s->gpr[mov.reg], value, mov.size);
    }
    done(s, s->rip + code->at);
    return true;
}

bool driver_quick(struct driver_cpu *v)
{
    const struct ringside_state *s = &v->run->state;
    struct code code;

    if (!(s->efer & EFER_LMA) || !(s->seg[RINGSIDE_CS].attributes & ATTRIBUTE_L) ||
        (s->rflags & RFLAGS_TF) || (s->dr7 & DR7_ENABLED) || !code_read(v, &code)) {
        return false;
    }
    return v->run->exit == RINGSIDE_EXIT_MEMORY ? device_access(v, &code) : instruction(v, &code);
}
