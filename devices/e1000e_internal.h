/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the 82574L share: registers (datasheet, section 10) and the device.
 */
#pragma once

#include "e1000e.h"
#include "pci_msix.h"

#define REGISTERS 0xb700u /* bytes that are modelled of the 128 KiB */

/* General */
#define CTRL           0x0000u
#define CTRL_NO_MASTER (1u << 2)
#define CTRL_RST       (1u << 26)
#define CTRL_VME       (1u << 30)
#define CTRL_PHY_RST   (1u << 31)
#define CTRL_DUP       0x0004u
#define STATUS         0x0008u
#define STATUS_FD      (1u << 0)
#define STATUS_LU      (1u << 1)
#define STATUS_1000    (2u << 6)
#define STATUS_MASTER  (1u << 19)
#define EECD           0x0010u
#define EERD           0x0014u
#define CTRL_EXT       0x0018u
#define CTRL_EXT_EIAME (1u << 24)
#define CTRL_EXT_IAME  (1u << 27)
#define CTRL_EXT_KEEP  0x7fffffffu
#define MDIC           0x0020u
#define VET            0x0038u
#define EXTCNF_CTRL    0x0f00u
#define EEMNGCTL       0x1010u
#define EEWR           0x102cu
#define PBA            0x1000u
#define SWSM           0x5b50u
#define FWSM           0x5b54u
#define FACTPS         0x5b30u
#define SYSTIML        0xb600u
#define SYSTIMH        0xb604u
#define TIMINCA        0xb608u

/* Interrupts */
#define ICR          0x00c0u
#define ITR          0x00c4u
#define ICS          0x00c8u
#define IMS          0x00d0u
#define IMC          0x00d8u
#define EIAC         0x00dcu
#define IAM          0x00e0u
#define IVAR         0x00e4u
#define EITR         0x00e8u /* five */
#define INT_TXDW     (1u << 0)
#define INT_TXQE     (1u << 1)
#define INT_LSC      (1u << 2)
#define INT_RXDMT0   (1u << 4)
#define INT_RXO      (1u << 6)
#define INT_RXT0     (1u << 7)
#define INT_MDAC     (1u << 9)
#define INT_RXQ0     (1u << 20) /* RXQ1, TXQ0, TXQ1 and OTHER follow: the order of IVAR */
#define INT_TXQ0     (1u << 22)
#define INT_OTHER    (1u << 24)
#define INT_MSIX     (0x1fu << 20)
#define INT_OTHERS   (INT_LSC | INT_RXO | INT_MDAC)
#define INT_ASSERTED (1u << 31)
#define MSIX_VECTORS 5u

/* Receive */
#define RCTL         0x0100u
#define RCTL_EN      (1u << 1)
#define RCTL_UPE     (1u << 3)
#define RCTL_MPE     (1u << 4)
#define RCTL_LPE     (1u << 5)
#define RCTL_BAM     (1u << 15)
#define RCTL_VFE     (1u << 18)
#define RCTL_SECRC   (1u << 26)
#define PSRCTL       0x2170u
#define RXCSUM       0x5000u
#define RXCSUM_IPOFL (1u << 8)
#define RXCSUM_TUOFL (1u << 9)
#define RFCTL        0x5008u
#define RFCTL_EXSTEN (1u << 15)
#define RX_QUEUE     0x2800u /* BAL, BAH, LEN; the second 100h on */
#define MTA          0x5200u
#define RAL          0x5400u /* 16 pairs */
#define VFTA         0x5600u

/* Transmit */
#define TCTL      0x0400u
#define TCTL_EN   (1u << 1)
#define TX_QUEUE  0x3800u
#define TX_QUEUES 2u

/* In a queue */
#define Q_BAL  0x00u
#define Q_BAH  0x04u
#define Q_LEN  0x08u
#define Q_HEAD 0x10u
#define Q_TAIL 0x18u

/* Statistics: read and gone */
#define STATS      0x4000u
#define STATS_END  0x4128u
#define STAT_MPC   0x4010u
#define STAT_PRC64 0x405cu
#define STAT_GPRC  0x4074u
#define STAT_BPRC  0x4078u
#define STAT_MPRC  0x407cu
#define STAT_GPTC  0x4080u
#define STAT_GORC  0x4088u /* two words */
#define STAT_GOTC  0x4090u
#define STAT_RNBC  0x40a0u
#define STAT_RUC   0x40a4u
#define STAT_ROC   0x40acu
#define STAT_TOR   0x40c0u
#define STAT_TOT   0x40c8u
#define STAT_TPR   0x40d0u
#define STAT_TPT   0x40d4u
#define STAT_PTC64 0x40d8u
#define STAT_MPTC  0x40f0u
#define STAT_BPTC  0x40f4u
#define STAT_TSCTC 0x40f8u

#define PHY_PAGES 8u
#define NVM_WORDS 64u

/* What a transmit queue is in the middle of. */
struct e1000e_tx {
    uint8_t context[16]; /* the last context descriptor */
    uint8_t *packet;     /* NET_MAX_PACKET */
    uint32_t len;
    bool too_long, large; /* large: to be segmented */
    uint8_t sums;         /* POPTS of the first data descriptor */
};

struct e1000e {
    struct pci_function pci;
    struct pci_msix msix;
    const struct device_host *host;
    struct net *net;
    uint32_t reg[REGISTERS / 4];
    uint16_t phy[PHY_PAGES][32];
    uint16_t nvm[NVM_WORDS];
    uint32_t io_address; /* of the window in I/O space */
    struct e1000e_tx tx[TX_QUEUES];
    struct timer *tx_timer; /* what one register write did not get done */

    uint32_t notified; /* causes whose MSI-X vector has been sent and that are still there */
    uint32_t held;     /* vectors that moderation holds back; without MSI-X vector 0 */
    bool asserted;     /* INTx or MSI */
    uint64_t quiet[MSIX_VECTORS]; /* no message before */
    struct timer *moderation;
};

#define R(at) e->reg[(at) / 4]

/* e1000e.c */
void e1000e_cause(struct e1000e *e, uint32_t causes);
void e1000e_interrupts(struct e1000e *e);
void e1000e_count(struct e1000e *e, unsigned at, uint32_t by);
void e1000e_count64(struct e1000e *e, unsigned at, uint64_t by);
/* The ring whose registers are at `at`: entries, 0 when there is none that makes sense. */
unsigned e1000e_ring(const struct e1000e *e, unsigned at, uint64_t *base);

/* e1000e_phy.c */
void e1000e_phy_reset(struct e1000e *e);
void e1000e_phy_link(struct e1000e *e);
void e1000e_mdic_write(struct e1000e *e, uint32_t value);
void e1000e_nvm_fill(struct e1000e *e, const uint8_t mac[6]);
void e1000e_eerd_write(struct e1000e *e, uint32_t value);

/* e1000e_rx.c, e1000e_tx.c */
bool e1000e_receive(void *card, const uint8_t *frame, size_t len,
                    const struct net_offload *offload);
void e1000e_transmit(struct e1000e *e);
