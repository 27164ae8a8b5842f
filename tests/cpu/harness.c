/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "harness.h"

#include <string.h>

static void harness_end(struct harness *h, int code)
{
    g_mutex_lock(&h->lock);
    h->code = code;
    g_cond_signal(&h->ended);
    g_mutex_unlock(&h->lock);
}

static uint64_t port_read(void *opaque, uint16_t port, unsigned size)
{
    return ~0ull;
}

static void port_write(void *opaque, uint16_t port, uint64_t value, unsigned size)
{
    struct harness *h = opaque;
    if (port == HARNESS_END_PORT) {
        harness_end(h, value & 0xffff);
    } else if (port == 0xe9) {
        g_string_append_c(h->output, (char)value);
    }
}

static uint64_t mmio_read(void *opaque, unsigned cpu, uint64_t gpa, unsigned size)
{
    return ~0ull;
}

static void mmio_write(void *opaque, unsigned cpu, uint64_t gpa, uint64_t value, unsigned size)
{
}

static int interrupt_ack(void *opaque, unsigned cpu)
{
    return -1;
}

static bool interrupt_pending(void *opaque, unsigned cpu)
{
    return false;
}

static uint64_t tpr_read(void *opaque, unsigned cpu)
{
    return 0;
}

static void tpr_write(void *opaque, unsigned cpu, uint64_t cr8)
{
}

static bool msr_read(void *opaque, unsigned cpu, uint32_t msr, uint64_t *value)
{
    *value = 0;
    return true;
}

static bool msr_write(void *opaque, unsigned cpu, uint32_t msr, uint64_t value)
{
    return true;
}

static void shut_down(void *opaque, unsigned cpu)
{
    harness_end(opaque, -2);
}

struct harness *harness_new(uint64_t ram_size, const char *options)
{
    struct harness *h = g_new0(struct harness, 1);
    h->memory = memory_new(ram_size, NULL);
    h->clock = clock_new();
    h->ram = memory_alloc(h->memory, ram_size, "ram");
    h->ram_size = ram_size;
    h->output = g_string_new(NULL);
    memory_map(h->memory,
               &(struct mapping){.gpa = 0, .size = ram_size, .kind = MAPPING_RAM, .host = h->ram});
    h->bus = (struct cpu_bus){h,          port_read,     port_write,        mmio_read,
                              mmio_write, interrupt_ack, interrupt_pending, tpr_read,
                              tpr_write,  msr_read,      msr_write,         shut_down};
    struct engine_config config = {1, h->memory, h->clock, &h->bus, options};
    h->engine = translate_engine.create(&config, NULL);
    return h;
}

void harness_free(struct harness *h)
{
    translate_engine.destroy(h->engine);
    memory_free(h->memory);
    clock_free(h->clock);
    g_string_free(h->output, TRUE);
    g_free(h);
}

int harness_run(struct harness *h, struct cpu_state *state, unsigned seconds)
{
    GError *error = NULL;
    h->code = -1;
    if (!translate_engine.set_state(h->engine, 0, state, &error)) {
        g_error("%s", error->message);
    }
    clock_resume(h->clock);
    translate_engine.run(h->engine);
    gint64 until = g_get_monotonic_time() + seconds * G_TIME_SPAN_SECOND;
    g_mutex_lock(&h->lock);
    while (h->code == -1 && g_get_monotonic_time() < until) {
        g_cond_wait_until(&h->ended, &h->lock, h->disturb ? g_get_monotonic_time() + 20 : until);
        if (h->disturb && h->code == -1) {
            translate_engine.code_written(h->engine, h->ram_size - GUEST_PAGE_SIZE, 64);
            translate_engine.memory_changed(h->engine);
        }
    }
    int code = h->code == -1 ? -3 : h->code;
    g_mutex_unlock(&h->lock);
    translate_engine.pause(h->engine);
    clock_pause(h->clock);
    translate_engine.get_state(h->engine, 0, state);
    return code;
}

static void put64(struct harness *h, uint64_t at, uint64_t value)
{
    memcpy(h->ram + at, &value, 8);
}

void harness_long_mode(struct harness *h, struct cpu_state *s, uint64_t tables, uint64_t rip,
                       uint64_t rsp)
{
    put64(h, tables, (tables + 0x1000) | 7);
    for (unsigned i = 0; i < 4; i++) {
        put64(h, tables + 0x1000 + 8 * i, (tables + 0x2000 + 0x1000 * i) | 7);
    }
    for (uint64_t i = 0; i < 2048; i++) {
        put64(h, tables + 0x2000 + 8 * i, i << 21 | 0x87);
    }
    uint64_t gdt = tables + 0x6000;
    put64(h, gdt, 0);
    put64(h, gdt + 8, 0x00af9b000000ffff);  /* 08: 64-bit code */
    put64(h, gdt + 16, 0x00cf93000000ffff); /* 10: data */
    cpu_state_reset(s, true, false);
    s->rip = rip;
    s->gpr[CPU_RSP] = rsp;
    s->rflags = 2;
    s->cr0 = 0x80050033;
    s->cr3 = tables;
    s->cr4 = 0x40620; /* PAE, OSFXSR, OSXMMEXCPT, OSXSAVE */
    s->efer = 0xd01;
    s->xcr0 = 7;
    s->gdtr_base = gdt;
    s->gdtr_limit = 23;
    s->seg[CPU_CS] = (struct cpu_segment){.limit = 0xffffffff, .selector = 8, .attributes = 0xa09b};
    static const uint8_t data[] = {CPU_ES, CPU_SS, CPU_DS, CPU_FS, CPU_GS};
    for (unsigned i = 0; i < 5; i++) {
        s->seg[data[i]] =
            (struct cpu_segment){.limit = 0xffffffff, .selector = 16, .attributes = 0xc093};
    }
}
