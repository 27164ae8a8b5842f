/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The 82574L's PHY behind MDIC (datasheet, section 10.2.1, and IEEE 802.3 clause 22) and its EEPROM
 * behind EERD (section 6.1). The PHY is always at 1000 Mb/s full duplex, when the cable is plugged
 * in.
 */
#include <string.h>

#include "e1000e_internal.h"

#define PHY_BMCR     0u
#define PHY_BMSR     1u
#define PHY_STATUS   17u /* of the copper side */
#define PHY_PAGE     22u
#define BMCR_RESET   0x8000u
#define BMCR_RESTART 0x0200u
#define BMSR_LINK    0x0024u /* link is up, negotiation is complete */
#define STATUS_LINK  0xac00u /* 1000 Mb/s, full duplex, resolved, link */

#define MDIC_READ  (2u << 26)
#define MDIC_WRITE (1u << 26)
#define MDIC_READY (1u << 28)
#define MDIC_IRQ   (1u << 29)
#define MDIC_ERROR (1u << 30)

#define EERD_START 1u
#define EERD_DONE  2u

void e1000e_phy_link(struct e1000e *e)
{
    uint16_t *page = e->phy[0];
    bool up = net_link(e->net);

    page[PHY_BMSR] = up ? page[PHY_BMSR] | BMSR_LINK : page[PHY_BMSR] & (uint16_t)~BMSR_LINK;
    page[PHY_STATUS] = up ? STATUS_LINK : 0;
    page[5] = up ? 0xcde1 : 0; /* the partner: all of 10 and 100, pause */
    page[10] = up ? 0x3800 : 0;
}

void e1000e_phy_reset(struct e1000e *e)
{
    static const uint16_t page0[16] = {
        [PHY_BMCR] = 0x1140, [PHY_BMSR] = 0x7949, [2] = 0x0141, [3] = 0x0cb1,
        [4] = 0x0de1,        [6] = 0x0007,        [9] = 0x0300, [15] = 0x3000,
    };

    memset(e->phy, 0, sizeof e->phy);
    memcpy(e->phy[0], page0, sizeof page0);
    e1000e_phy_link(e);
}

static uint16_t *phy_register(struct e1000e *e, unsigned n)
{
    unsigned page = n == PHY_PAGE || n < 16 ? 0 : e->phy[0][PHY_PAGE] & 0xff;

    return page < PHY_PAGES ? &e->phy[page][n] : NULL;
}

static void phy_write(struct e1000e *e, unsigned n, uint16_t value)
{
    uint16_t *at = phy_register(e, n);

    if (n == PHY_BMCR) {
        if (value & BMCR_RESET) {
            e1000e_phy_reset(e);
        } else {
            *at = value & (uint16_t)~BMCR_RESTART;
        }
        if (value & (BMCR_RESET | BMCR_RESTART)) {
            e1000e_phy_link(e);
            e1000e_cause(e, INT_LSC);
        }
    } else if (at && (n == 4 || n == 9 || n > 15) && at != &e->phy[0][PHY_STATUS]) {
        *at = value;
    }
}

void e1000e_mdic_write(struct e1000e *e, uint32_t value)
{
    unsigned n = value >> 16 & 31, address = value >> 21 & 31;
    const uint16_t *at = phy_register(e, n);

    R(MDIC) = (value & ~(MDIC_ERROR | MDIC_READY)) | MDIC_READY;
    if (address != 1) {
        R(MDIC) |= MDIC_ERROR;
    } else if (value & MDIC_READ) {
        R(MDIC) = (R(MDIC) & 0xffff0000u) | (at ? *at : 0);
    } else if (value & MDIC_WRITE) {
        phy_write(e, n, (uint16_t)value);
    }
    if (value & MDIC_IRQ) {
        e1000e_cause(e, INT_MDAC);
    }
}

/* The sum of all words is BABAh. */
void e1000e_nvm_fill(struct e1000e *e, const uint8_t mac[6])
{
    uint16_t sum = 0;

    memset(e->nvm, 0xff, sizeof e->nvm);
    for (unsigned i = 0; i < 3; i++) {
        e->nvm[i] = (uint16_t)(mac[2 * i] | mac[2 * i + 1] << 8);
    }
    e->nvm[0x03] = 0x0420;
    e->nvm[0x05] = 0x1080; /* version of the image */
    e->nvm[0x0a] = 0x026e; /* initialization control 1 */
    e->nvm[0x0b] = 0xa01f; /* subsystem */
    e->nvm[0x0c] = 0x8086;
    e->nvm[0x0d] = 0x10d3;
    e->nvm[0x0e] = 0x8086;
    e->nvm[0x0f] = 0x0000; /* initialization control 2: no management */
    e->nvm[0x1a] = 0x0000; /* 3GIO: no ASPM */
    for (unsigned i = 0; i < 0x3f; i++) {
        sum = (uint16_t)(sum + e->nvm[i]);
    }
    e->nvm[0x3f] = (uint16_t)(0xbaba - sum);
}

void e1000e_eerd_write(struct e1000e *e, uint32_t value)
{
    unsigned at = value >> 2 & 0x3fff;

    R(EERD) = value & 0xfffcu;
    if (value & EERD_START) {
        R(EERD) |= EERD_DONE | (at < NVM_WORDS ? (uint32_t)e->nvm[at] << 16 : 0);
    }
}
