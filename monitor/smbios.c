/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SMBIOS 2.8 structures (DMTF DSP0134) behind a 32-bit entry point: BIOS, system, chassis,
 * processors, memory. The firmware puts them in place and fills address and checksums.
 */
#include <string.h>

#include "machine_internal.h"

struct smbios {
    GByteArray *out;
    unsigned count, largest;
    unsigned start; /* of the structure being made */
    const char *strings[8];
    unsigned string_count;
};

static void put(struct smbios *s, uint64_t value, unsigned size)
{
    value = GUINT64_TO_LE(value);
    g_byte_array_append(s->out, (const uint8_t *)&value, size);
}

static void put_string(struct smbios *s, const char *text)
{
    if (!text || !*text || s->string_count == G_N_ELEMENTS(s->strings)) {
        put(s, 0, 1);
        return;
    }
    s->strings[s->string_count++] = text;
    put(s, s->string_count, 1);
}

static void structure_begin(struct smbios *s, uint8_t type, uint16_t handle)
{
    s->start = s->out->len;
    s->string_count = 0;
    put(s, type, 1);
    put(s, 0, 1);
    put(s, handle, 2);
}

static void structure_end(struct smbios *s)
{
    s->out->data[s->start + 1] = (uint8_t)(s->out->len - s->start);
    for (unsigned i = 0; i < s->string_count; i++) {
        g_byte_array_append(s->out, (const uint8_t *)s->strings[i],
                            (guint)strlen(s->strings[i]) + 1);
    }
    put(s, 0, s->string_count ? 1 : 2);
    s->largest = MAX(s->largest, s->out->len - s->start);
    s->count++;
}

static void bios_build(struct smbios *s)
{
    structure_begin(s, 0, 0);
    put_string(s, "SeaBIOS");
    put_string(s, "1");
    put(s, 0xe800, 2);
    put_string(s, "04/01/2014");
    put(s, 0, 1);
    put(s, 8, 8);          /* characteristics not supported */
    put(s, 0x1001, 2);     /* ACPI; virtual machine (bit 4 of byte 2) */
    put(s, 0x0000ffff, 4); /* versions: none */
    structure_end(s);
}

/* A UUID's first three fields are little-endian here. */
static void uuid_put(struct smbios *s, const char *text)
{
    static const uint8_t order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
    uint8_t bytes[16] = {0};
    unsigned n = 0;

    for (; text && *text && n < 32; text++) {
        if (g_ascii_isxdigit(*text)) {
            bytes[n / 2] |= (uint8_t)(g_ascii_xdigit_value(*text) << (n & 1 ? 0 : 4));
            n++;
        }
    }
    for (unsigned i = 0; i < 16; i++) {
        put(s, bytes[order[i]], 1);
    }
}

static void system_build(struct smbios *s, const struct machine *m)
{
    structure_begin(s, 1, 0x100);
    put_string(s, "Ringside");
    put_string(s, "Ringside virtual machine");
    put_string(s, "1");
    put(s, 0, 1);
    uuid_put(s, m->config.uuid);
    put(s, 6, 1); /* wake-up: power switch */
    put(s, 0, 1);
    put_string(s, m->config.name);
    structure_end(s);
}

static void chassis_build(struct smbios *s)
{
    structure_begin(s, 3, 0x300);
    put_string(s, "Ringside");
    put(s, 1, 1); /* other */
    put(s, 0, 3);
    put(s, 3 | 3 << 8 | 3 << 16 | 2 << 24, 4); /* safe, safe, safe; security unknown */
    put(s, 0, 4);
    put(s, 0, 4); /* height, power cords, no elements, element length */
    put(s, 0, 1);
    structure_end(s);
}

static void processor_build(struct smbios *s, const struct machine *m, unsigned n)
{
    unsigned mhz = clock_tsc_mhz(m->clock);

    structure_begin(s, 4, (uint16_t)(0x400 + n));
    put_string(s, "CPU");
    put(s, 3, 1); /* central processor */
    put(s, 1, 1); /* family: other */
    put_string(s, "Ringside");
    put(s, 0, 8);
    put(s, 0, 1);
    put(s, 0, 1); /* voltage */
    put(s, 0, 2); /* external clock */
    put(s, MIN(mhz, 0xffff), 2);
    put(s, MIN(mhz, 0xffff), 2);
    put(s, 0x41, 1);              /* enabled */
    put(s, 1, 1);                 /* upgrade: other */
    put(s, 0xffffffffffffull, 6); /* caches: not provided */
    put(s, 0, 3);
    put(s, 0x010101, 3); /* one core, enabled, one thread */
    put(s, 0x4, 2);      /* 64-bit */
    put(s, 1, 2);
    structure_end(s);
}

static void memory_build(struct smbios *s, const struct machine *m)
{
    uint64_t mib = m->config.memory_bytes >> 20;

    structure_begin(s, 16, 0x1000);
    put(s, 1 | 3 << 8 | 3 << 16, 3); /* other; system memory; no ECC */
    put(s, MIN(mib << 10, 0x7fffffff), 4);
    put(s, 0xfffe, 2);
    put(s, 1, 2);
    put(s, 0, 8);
    structure_end(s);
    structure_begin(s, 17, 0x1100);
    put(s, 0x1000, 2);
    put(s, 0xfffe, 2);
    put(s, 64 | 64 << 16, 4); /* widths */
    put(s, MIN(mib, 0x7fff), 2);
    put(s, 9, 1); /* DIMM */
    put(s, 0, 1);
    put_string(s, "DIMM 0");
    put(s, 0, 1);
    put(s, 7, 1); /* RAM */
    put(s, 2, 2);
    put(s, 0, 2);
    put(s, 0, 4); /* strings */
    put(s, 0, 1);
    put(s, mib >= 0x7fff ? mib : 0, 4);
    put(s, 0, 8);
    structure_end(s);
}

static void range_build(struct smbios *s, uint16_t handle, uint64_t start, uint64_t size)
{
    structure_begin(s, 19, handle);
    put(s, MIN(start >> 10, 0xffffffffu), 4);
    put(s, MIN(((start + size) >> 10) - 1, 0xffffffffu), 4);
    put(s, 0x1000, 2);
    put(s, 1, 1);
    put(s, 0, 8);
    put(s, 0, 8);
    structure_end(s);
}

static void anchor_build(const struct smbios *s, GByteArray *anchor)
{
    uint8_t a[31] = {'_', 'S', 'M', '_', 0, sizeof a, 2,   8,   0,   0,  0,
                     0,   0,   0,   0,   0, '_',      'D', 'M', 'I', '_'};

    a[8] = (uint8_t)s->largest;
    a[9] = (uint8_t)(s->largest >> 8);
    a[0x16] = (uint8_t)s->out->len;
    a[0x17] = (uint8_t)(s->out->len >> 8);
    a[0x1c] = (uint8_t)s->count;
    a[0x1d] = (uint8_t)(s->count >> 8);
    a[0x1e] = 0x28;
    g_byte_array_append(anchor, a, sizeof a);
}

void smbios_build(const struct machine *m, GByteArray *tables, GByteArray *anchor)
{
    struct smbios s = {.out = tables};

    bios_build(&s);
    system_build(&s, m);
    chassis_build(&s);
    for (unsigned i = 0; i < m->config.cpus; i++) {
        processor_build(&s, m, i);
    }
    memory_build(&s, m);
    range_build(&s, 0x1300, 0, m->low_memory);
    if (m->high_memory) {
        range_build(&s, 0x1301, MEMORY_4G, m->high_memory);
    }
    structure_begin(&s, 127, 0x7f00);
    structure_end(&s);
    anchor_build(&s, anchor);
}
