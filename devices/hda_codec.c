/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The codec (sections 7.2 and 7.3): verbs in, responses out.
 *
 *   0 root   1 audio function group
 *   2 DAC -> 3 line out      5 line in -> 4 ADC
 */
#include <string.h>

#include "hda_internal.h"

enum { NODE_ROOT, NODE_GROUP, NODE_DAC, NODE_OUT, NODE_ADC, NODE_IN };

#define CODEC_ID     0x52530001u
#define RATES        0x0012017cu /* 16, 22.05, 32, 44.1, 48, 96 kHz; 16 and 32 bits */
#define STEPS        74u         /* of 1 dB; the last is 0 dB */
#define AMPLIFIER    (1u << 31 | 3u << 16 | STEPS << 8 | STEPS)
#define MUTE         0x80u
#define CONVERTER(n) ((n) == NODE_DAC || (n) == NODE_ADC)
#define PIN(n)       ((n) == NODE_OUT || (n) == NODE_IN)

/* Parameters (section 7.3.4); what is not here is 0. */
static const struct {
    uint8_t node, parameter;
    uint32_t value;
} parameters[] = {
    {NODE_ROOT, 0x00, CODEC_ID},
    {NODE_ROOT, 0x02, 0x00100101},
    {NODE_ROOT, 0x04, NODE_GROUP << 16 | 1},
    {NODE_GROUP, 0x04, NODE_DAC << 16 | 4},
    {NODE_GROUP, 0x05, 1}, /* audio */
    {NODE_GROUP, 0x0a, RATES},
    {NODE_GROUP, 0x0b, 1}, /* PCM */
    {NODE_GROUP, 0x0f, 9}, /* D0, D3 */
    {NODE_DAC, 0x09, 0x0000001d},
    {NODE_DAC, 0x0a, RATES},
    {NODE_DAC, 0x0b, 1},
    {NODE_DAC, 0x12, AMPLIFIER},
    {NODE_OUT, 0x09, 0x00400101},
    {NODE_OUT, 0x0c, 0x00000010}, /* output */
    {NODE_OUT, 0x0e, 1},
    {NODE_ADC, 0x09, 0x0010011b},
    {NODE_ADC, 0x0a, RATES},
    {NODE_ADC, 0x0b, 1},
    {NODE_ADC, 0x0d, AMPLIFIER},
    {NODE_ADC, 0x0e, 1},
    {NODE_IN, 0x09, 0x00400001},
    {NODE_IN, 0x0c, 0x00000020}, /* input */
};

static uint32_t parameter(unsigned node, unsigned which)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(parameters); i++) {
        if (parameters[i].node == node && parameters[i].parameter == which) {
            return parameters[i].value;
        }
    }
    return 0;
}

void hda_codec_reset(struct hda *h)
{
    memset(h->node, 0, sizeof h->node);
    for (unsigned n = 0; n < HDA_NODES; n++) {
        h->node[n].gain[0] = h->node[n].gain[1] = MUTE | STEPS;
    }
    h->node[NODE_OUT].pin = 0x40;
    h->node[NODE_IN].pin = 0x20;
    h->pin_config[NODE_OUT] = 0x01014110; /* rear, line out, green, no presence detection */
    h->pin_config[NODE_IN] = 0x01813120;  /* rear, line in, blue */
}

const struct hda_node *hda_codec_converter(const struct hda *h, unsigned n, bool input)
{
    const struct hda_node *node = &h->node[input ? NODE_ADC : NODE_DAC];

    return n && node->stream >> 4 == n ? node : NULL;
}

/* A converter may have come to another stream, or to none. */
static void reconnect(struct hda *h)
{
    for (unsigned i = 0; i < HDA_STREAMS; i++) {
        hda_stream_open(&h->stream[i]);
    }
}

/* Payload: bit 15 output, 14 input, 13 left, 12 right, 7 mute, 6-0 gain. */
static void set_gain(unsigned n, struct hda_node *node, uint32_t payload)
{
    uint8_t value = (uint8_t)((payload & MUTE) | MIN(payload & 0x7f, STEPS));

    if (!CONVERTER(n) || !(payload & (n == NODE_DAC ? 1u << 15 : 1u << 14))) {
        return;
    }
    if (payload & 1u << 13) {
        node->gain[0] = value;
    }
    if (payload & 1u << 12) {
        node->gain[1] = value;
    }
}

/* Verbs with 16 bits of payload. */
static uint32_t long_verb(struct hda *h, unsigned n, unsigned verb, uint32_t payload)
{
    struct hda_node *node = &h->node[n];

    switch (verb) {
    case 0x2:
        node->format = (uint16_t)(CONVERTER(n) ? payload : 0);
        reconnect(h);
        return 0;
    case 0xa:
        return node->format;
    case 0x3:
        set_gain(n, node, payload);
        return 0;
    case 0xb:
        return CONVERTER(n) ? node->gain[payload & 1u << 13 ? 0 : 1] : 0;
    default:
        return 0;
    }
}

static uint32_t get_verb(struct hda *h, unsigned n, unsigned verb, uint32_t payload)
{
    const struct hda_node *node = &h->node[n];

    switch (verb) {
    case 0xf00:
        return parameter(n, payload);
    case 0xf02:
        return payload ? 0 : n == NODE_OUT ? NODE_DAC : n == NODE_ADC ? NODE_IN : 0;
    case 0xf05:
        return node->power << 4 | node->power;
    case 0xf06:
        return node->stream;
    case 0xf07:
        return node->pin;
    case 0xf09:
        return PIN(n) ? 1u << 31 : 0;
    case 0xf1c:
        return h->pin_config[n];
    case 0xf20:
        return n == NODE_GROUP ? CODEC_ID : 0;
    default:
        return 0;
    }
}

static void set_verb(struct hda *h, unsigned n, unsigned verb, uint32_t payload)
{
    struct hda_node *node = &h->node[n];

    switch (verb) {
    case 0x705:
        node->power = payload & 3;
        break;
    case 0x706:
        node->stream = (uint8_t)(CONVERTER(n) ? payload : 0);
        reconnect(h);
        break;
    case 0x707:
        node->pin = (uint8_t)(PIN(n) ? payload & 0xe7 : 0);
        break;
    case 0x71c:
    case 0x71d:
    case 0x71e:
    case 0x71f:
        if (PIN(n)) {
            unsigned shift = 8 * (verb - 0x71c);
            h->pin_config[n] = (h->pin_config[n] & ~(0xffu << shift)) | payload << shift;
        }
        break;
    case 0x7ff:
        hda_codec_reset(h);
        reconnect(h);
        break;
    }
}

/* u4 codec, u8 node, then u12 verb and u8 payload or u4 verb and u16 payload. */
uint32_t hda_codec_command(struct hda *h, uint32_t command)
{
    unsigned n = command >> 20 & 0x7f, verb = command >> 8 & 0xfff;

    if (command >> 28 || n >= HDA_NODES || command & 1u << 27) {
        return 0;
    }
    if ((verb & 0x700) != 0x700) {
        return long_verb(h, n, command >> 16 & 15, command & 0xffff);
    }
    if (verb >= 0xf00) {
        return get_verb(h, n, verb, command & 0xff);
    }
    set_verb(h, n, verb, command & 0xff);
    return 0;
}
