/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Device state to and from GVariant (see state.h). The file may be damaged or hostile: every type
 * and size is checked, and the first failure is kept for the message.
 */
#include <gio/gio.h>
#include <string.h>

#include "clock.h"
#include "state.h"

struct state {
    bool restoring;
    unsigned version;
    GVariantBuilder builder;
    GHashTable *fields; /* restoring: name -> GVariant */
    GString *prefix;
    GArray *levels; /* lengths of prefix to go back to */
    char *failure;
};

static struct state *state_new(bool restoring, unsigned version)
{
    struct state *s = g_new0(struct state, 1);

    s->restoring = restoring;
    s->version = version;
    s->prefix = g_string_new(NULL);
    s->levels = g_array_new(FALSE, FALSE, sizeof(gsize));
    return s;
}

static void state_free(struct state *s)
{
    g_string_free(s->prefix, TRUE);
    g_array_free(s->levels, TRUE);
    g_clear_pointer(&s->fields, g_hash_table_unref);
    g_free(s->failure);
    g_free(s);
}

struct state *state_begin_save(unsigned version)
{
    struct state *s = state_new(false, version);

    g_variant_builder_init(&s->builder, G_VARIANT_TYPE_VARDICT);
    return s;
}

GVariant *state_end_save(struct state *s)
{
    GVariant *v = g_variant_new("(u@a{sv})", s->version, g_variant_builder_end(&s->builder));

    state_free(s);
    return v;
}

struct state *state_begin_restore(GVariant *variant)
{
    struct state *s = state_new(true, 0);
    g_autoptr(GVariant) dict = NULL;
    GVariantIter iter;
    char *name;
    GVariant *value;

    s->fields =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)g_variant_unref);
    if (!variant || !g_variant_is_of_type(variant, G_VARIANT_TYPE("(ua{sv})"))) {
        state_fail(s, "(all)", "has the wrong type");
        return s;
    }
    g_variant_get(variant, "(u@a{sv})", &s->version, &dict);
    g_variant_iter_init(&iter, dict);
    while (g_variant_iter_next(&iter, "{sv}", &name, &value)) {
        g_hash_table_replace(s->fields, name, value);
    }
    return s;
}

bool state_end_restore(struct state *s, const char *what, GError **error)
{
    bool ok = !s->failure;

    if (!ok) {
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_INVALID_DATA,
                    "The saved state of %s cannot be used: %s", what, s->failure);
    }
    state_free(s);
    return ok;
}

bool state_restoring(const struct state *s)
{
    return s->restoring;
}

unsigned state_version(const struct state *s)
{
    return s->version;
}

void state_fail(struct state *s, const char *field, const char *why)
{
    if (!s->failure) {
        s->failure = g_strdup_printf("field %s%s %s", s->prefix->str, field, why);
    }
}

bool state_failed(const struct state *s)
{
    return s->failure != NULL;
}

static void state_put(struct state *s, const char *name, GVariant *value)
{
    g_autofree char *full = g_strconcat(s->prefix->str, name, NULL);

    g_variant_builder_add(&s->builder, "{sv}", full, value);
}

/* The field's value (owned by the state) when it is there with the right type. */
static GVariant *state_get(struct state *s, const char *name, const char *type)
{
    g_autofree char *full = g_strconcat(s->prefix->str, name, NULL);
    GVariant *value = s->fields ? g_hash_table_lookup(s->fields, full) : NULL;

    if (!value) {
        state_fail(s, name, "is missing");
        return NULL;
    }
    if (!g_variant_is_of_type(value, G_VARIANT_TYPE(type))) {
        state_fail(s, name, "has the wrong type");
        return NULL;
    }
    return value;
}

#define STATE_SCALAR(fn, ctype, letter, kind)                                                      \
    void fn(struct state *s, const char *name, ctype *value)                                       \
    {                                                                                              \
        GVariant *v;                                                                               \
                                                                                                   \
        if (!s->restoring) {                                                                       \
            state_put(s, name, g_variant_new_##kind(*value));                                      \
        } else if ((v = state_get(s, name, letter))) {                                             \
            *value = g_variant_get_##kind(v);                                                      \
        }                                                                                          \
    }

STATE_SCALAR(state_bool, bool, "b", boolean)
STATE_SCALAR(state_u8, uint8_t, "y", byte)
STATE_SCALAR(state_u16, uint16_t, "q", uint16)
STATE_SCALAR(state_u32, uint32_t, "u", uint32)
STATE_SCALAR(state_u64, uint64_t, "t", uint64)

static GVariant *variant_bytes(const void *bytes, size_t size)
{
    return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, size ? bytes : "", size, 1);
}

void state_bytes(struct state *s, const char *name, void *bytes, size_t size)
{
    GVariant *v;
    gconstpointer data;
    gsize n;

    if (!s->restoring) {
        state_put(s, name, variant_bytes(bytes, size));
        return;
    }
    if (!(v = state_get(s, name, "ay"))) {
        return;
    }
    data = g_variant_get_fixed_array(v, &n, 1);
    if (n != size) {
        state_fail(s, name, "has the wrong size");
        return;
    }
    if (n) {
        memcpy(bytes, data, n);
    }
}

void state_blob(struct state *s, const char *name, uint8_t **bytes, size_t *size, size_t max)
{
    GVariant *v;
    gconstpointer data;
    gsize n;

    if (!s->restoring) {
        state_put(s, name, variant_bytes(*bytes, *size));
        return;
    }
    if (!(v = state_get(s, name, "ay"))) {
        return;
    }
    data = g_variant_get_fixed_array(v, &n, 1);
    if (n > max) {
        state_fail(s, name, "is too long");
        return;
    }
    g_free(*bytes);
    *bytes = n ? g_memdup2(data, n) : NULL;
    *size = n;
}

void state_string(struct state *s, const char *name, char **value)
{
    GVariant *v;
    const char *text = NULL;

    if (!s->restoring) {
        state_put(s, name, g_variant_new("ms", *value));
        return;
    }
    if ((v = state_get(s, name, "ms"))) {
        g_variant_get(v, "m&s", &text);
        g_free(*value);
        *value = g_strdup(text);
    }
}

void state_push(struct state *s, const char *name, unsigned index)
{
    gsize length = s->prefix->len;

    g_array_append_val(s->levels, length);
    g_string_append_printf(s->prefix, "%s.%u.", name, index);
}

void state_pop(struct state *s)
{
    if (s->levels->len) {
        g_string_truncate(s->prefix, g_array_index(s->levels, gsize, s->levels->len - 1));
        g_array_set_size(s->levels, s->levels->len - 1);
    }
}

void state_timer(struct state *s, const char *name, struct timer *timer)
{
    uint64_t deadline = timer_deadline(timer);

    state_u64(s, name, &deadline);
    if (!s->restoring || state_failed(s)) {
        return;
    }
    if (deadline == UINT64_MAX) {
        timer_disarm(timer);
    } else {
        timer_arm(timer, deadline);
    }
}
