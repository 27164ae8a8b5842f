/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "profile.h"

#include <dlfcn.h>
#include <glib.h>
#include <string.h>

#include "../device.h"
#include "cache.h"

static const char *const kinds[SAMPLES] = {
    [SAMPLE_CODE] = "translated code",    [SAMPLE_THUNKS] = "jump table, ways in and out",
    [SAMPLE_TRANSLATION] = "translation", [SAMPLE_DEVICES] = "devices",
    [SAMPLE_REST] = "the rest",
};

static void helper_sample(struct vcpu *v, void *helper)
{
    for (unsigned i = 0; i < HELPER_SAMPLES; i++) {
        struct helper_samples *h = &v->helper_samples[i];
        if (!h->helper || h->helper == helper) {
            h->helper = helper;
            h->count++;
            return;
        }
    }
    v->samples[SAMPLE_REST]++; /* more helpers than there is room for */
}

void profile_sample(struct vcpu *v, uint64_t pc)
{
    const struct code_cache *c = v->cache;
    uint64_t offset = pc - (uint64_t)c->rx;
    if (offset < c->size) {
        v->samples[offset < c->start ? SAMPLE_THUNKS : SAMPLE_CODE]++;
    } else if (v->translating) {
        v->samples[SAMPLE_TRANSLATION]++;
    } else if (v->helper) {
        helper_sample(v, v->helper);
    } else {
        v->samples[atomic_load(&v->outside) ? SAMPLE_DEVICES : SAMPLE_REST]++;
    }
}

struct line {
    const char *name;
    uint64_t count;
};

static int line_compare(const void *a, const void *b)
{
    uint64_t x = ((const struct line *)a)->count, y = ((const struct line *)b)->count;
    return x < y ? 1 : x > y ? -1 : 0;
}

static const char *helper_name(void *helper)
{
    Dl_info info;
    return dladdr(helper, &info) && info.dli_sname ? info.dli_sname : "a helper";
}

static void samples_log(const struct vcpu *v)
{
    struct line line[SAMPLES + HELPER_SAMPLES];
    unsigned n = 0;
    uint64_t total = 0;
    for (unsigned i = 0; i < SAMPLES; i++) {
        line[n++] = (struct line){kinds[i], v->samples[i]};
    }
    for (unsigned i = 0; i < HELPER_SAMPLES && v->helper_samples[i].helper; i++) {
        const struct helper_samples *h = &v->helper_samples[i];
        line[n++] = (struct line){helper_name(h->helper), h->count};
    }
    for (unsigned i = 0; i < n; i++) {
        total += line[i].count;
    }
    qsort(line, n, sizeof *line, line_compare);
    device_log("profile", "cpu %u: %12" G_GUINT64_FORMAT " samples of its time", v->index, total);
    for (unsigned i = 0; i < n && line[i].count; i++) {
        device_log("profile", "cpu %u: %11.1f%% %s", v->index,
                   100.0 * (double)line[i].count / (double)total, line[i].name);
    }
}

void profile_log(const struct vcpu *v)
{
    samples_log(v);
#define COUNTER_LOG(name, text)                                                                    \
    device_log("profile", "cpu %u: %12" G_GUINT64_FORMAT " %s", v->index, v->count.name, text);
    COUNTERS(COUNTER_LOG)
#undef COUNTER_LOG
}
