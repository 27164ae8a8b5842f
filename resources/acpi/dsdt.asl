/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The DSDT of the Q35 machine (ACPI 6.4). The monitor patches NCPU. The _PRT says what pci.c's intx_line() does.
 */
DefinitionBlock ("dsdt.aml", "DSDT", 2, "RNGSDE", "RINGSIDE", 1)
{
    Name (NCPU, 0x20) /* patched */
    Name (PICF, 0)
    Method (_PIC, 1, NotSerialized) { PICF = Arg0 }
    Name (_S5, Package () { 7, 7, 0, 0 })

    Method (CSTA, 1, NotSerialized)
    {
        If (Arg0 < NCPU) { Return (0x0F) }
        Return (0)
    }

    /* Link devices: status, current setting and choice from a PIRQ routing register. */
    Method (LSTA, 1, NotSerialized)
    {
        If (Arg0 & 0x80) { Return (0x09) }
        Return (0x0B)
    }
    Method (LCRS, 1, Serialized)
    {
        Name (BUF0, ResourceTemplate () { IRQ (Level, ActiveLow, Shared) { 5 } })
        CreateWordField (BUF0, 1, IRQW)
        IRQW = 0
        If (!(Arg0 & 0x80)) { IRQW = 1 << (Arg0 & 0x0F) }
        Return (BUF0)
    }
    Method (LIRQ, 1, Serialized)
    {
        CreateWordField (Arg0, 1, IRQW)
        FindSetRightBit (IRQW, Local0)
        Return (Local0 - 1)
    }

    Scope (_SB)
    {
        Device (PWRB)
        {
            Name (_HID, EisaId ("PNP0C0C"))
        }
        Device (C000)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 0)
            Method (_STA, 0, NotSerialized) { Return (CSTA (0)) }
        }
        Device (C001)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 1)
            Method (_STA, 0, NotSerialized) { Return (CSTA (1)) }
        }
        Device (C002)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 2)
            Method (_STA, 0, NotSerialized) { Return (CSTA (2)) }
        }
        Device (C003)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 3)
            Method (_STA, 0, NotSerialized) { Return (CSTA (3)) }
        }
        Device (C004)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 4)
            Method (_STA, 0, NotSerialized) { Return (CSTA (4)) }
        }
        Device (C005)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 5)
            Method (_STA, 0, NotSerialized) { Return (CSTA (5)) }
        }
        Device (C006)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 6)
            Method (_STA, 0, NotSerialized) { Return (CSTA (6)) }
        }
        Device (C007)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 7)
            Method (_STA, 0, NotSerialized) { Return (CSTA (7)) }
        }
        Device (C008)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 8)
            Method (_STA, 0, NotSerialized) { Return (CSTA (8)) }
        }
        Device (C009)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 9)
            Method (_STA, 0, NotSerialized) { Return (CSTA (9)) }
        }
        Device (C00A)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 10)
            Method (_STA, 0, NotSerialized) { Return (CSTA (10)) }
        }
        Device (C00B)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 11)
            Method (_STA, 0, NotSerialized) { Return (CSTA (11)) }
        }
        Device (C00C)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 12)
            Method (_STA, 0, NotSerialized) { Return (CSTA (12)) }
        }
        Device (C00D)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 13)
            Method (_STA, 0, NotSerialized) { Return (CSTA (13)) }
        }
        Device (C00E)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 14)
            Method (_STA, 0, NotSerialized) { Return (CSTA (14)) }
        }
        Device (C00F)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 15)
            Method (_STA, 0, NotSerialized) { Return (CSTA (15)) }
        }
        Device (C010)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 16)
            Method (_STA, 0, NotSerialized) { Return (CSTA (16)) }
        }
        Device (C011)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 17)
            Method (_STA, 0, NotSerialized) { Return (CSTA (17)) }
        }
        Device (C012)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 18)
            Method (_STA, 0, NotSerialized) { Return (CSTA (18)) }
        }
        Device (C013)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 19)
            Method (_STA, 0, NotSerialized) { Return (CSTA (19)) }
        }
        Device (C014)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 20)
            Method (_STA, 0, NotSerialized) { Return (CSTA (20)) }
        }
        Device (C015)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 21)
            Method (_STA, 0, NotSerialized) { Return (CSTA (21)) }
        }
        Device (C016)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 22)
            Method (_STA, 0, NotSerialized) { Return (CSTA (22)) }
        }
        Device (C017)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 23)
            Method (_STA, 0, NotSerialized) { Return (CSTA (23)) }
        }
        Device (C018)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 24)
            Method (_STA, 0, NotSerialized) { Return (CSTA (24)) }
        }
        Device (C019)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 25)
            Method (_STA, 0, NotSerialized) { Return (CSTA (25)) }
        }
        Device (C01A)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 26)
            Method (_STA, 0, NotSerialized) { Return (CSTA (26)) }
        }
        Device (C01B)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 27)
            Method (_STA, 0, NotSerialized) { Return (CSTA (27)) }
        }
        Device (C01C)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 28)
            Method (_STA, 0, NotSerialized) { Return (CSTA (28)) }
        }
        Device (C01D)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 29)
            Method (_STA, 0, NotSerialized) { Return (CSTA (29)) }
        }
        Device (C01E)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 30)
            Method (_STA, 0, NotSerialized) { Return (CSTA (30)) }
        }
        Device (C01F)
        {
            Name (_HID, "ACPI0007")
            Name (_UID, 31)
            Method (_STA, 0, NotSerialized) { Return (CSTA (31)) }
        }
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Name (_SEG, 0)
            Name (_BBN, 0)
            Name (_UID, 0)
            Name (SUPP, 0)
            Name (CTRL, 0)
            Method (_OSC, 4, NotSerialized)
            {
                CreateDWordField (Arg3, 0, CDW1)
                If (Arg0 == ToUUID ("33DB4D5B-1FF7-401C-9657-7441C03DD766"))
                {
                    CreateDWordField (Arg3, 4, CDW2)
                    CreateDWordField (Arg3, 8, CDW3)
                    SUPP = CDW2
                    CTRL = CDW3 & 0x10 /* PCIe capability structures only */
                    If (Arg1 != 1) { CDW1 |= 0x08 }
                    If (CDW3 != CTRL) { CDW1 |= 0x10 }
                    CDW3 = CTRL
                }
                Else
                {
                    CDW1 |= 4
                }
                Return (Arg3)
            }
            Name (_CRS, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                    0, 0, 0xFF, 0, 0x100)
                IO (Decode16, 0x0CF8, 0x0CF8, 1, 8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0, 0, 0x0CF7, 0, 0x0CF8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0, 0x0D00, 0xFFFF, 0, 0xF300)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,
                    0, 0x000A0000, 0x000BFFFF, 0, 0x00020000)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable,
                    ReadWrite, 0, 0xC0000000, 0xFEBFFFFF, 0, 0x3EC00000)
            })
            Name (PRTP, Package ()
            {
                Package () { 0x0001FFFF, 0, LNKF, 0 },
                Package () { 0x0001FFFF, 1, LNKG, 0 },
                Package () { 0x0001FFFF, 2, LNKH, 0 },
                Package () { 0x0001FFFF, 3, LNKE, 0 },
                Package () { 0x0002FFFF, 0, LNKG, 0 },
                Package () { 0x0002FFFF, 1, LNKH, 0 },
                Package () { 0x0002FFFF, 2, LNKE, 0 },
                Package () { 0x0002FFFF, 3, LNKF, 0 },
                Package () { 0x0003FFFF, 0, LNKH, 0 },
                Package () { 0x0003FFFF, 1, LNKE, 0 },
                Package () { 0x0003FFFF, 2, LNKF, 0 },
                Package () { 0x0003FFFF, 3, LNKG, 0 },
                Package () { 0x0004FFFF, 0, LNKE, 0 },
                Package () { 0x0004FFFF, 1, LNKF, 0 },
                Package () { 0x0004FFFF, 2, LNKG, 0 },
                Package () { 0x0004FFFF, 3, LNKH, 0 },
                Package () { 0x0005FFFF, 0, LNKF, 0 },
                Package () { 0x0005FFFF, 1, LNKG, 0 },
                Package () { 0x0005FFFF, 2, LNKH, 0 },
                Package () { 0x0005FFFF, 3, LNKE, 0 },
                Package () { 0x0006FFFF, 0, LNKG, 0 },
                Package () { 0x0006FFFF, 1, LNKH, 0 },
                Package () { 0x0006FFFF, 2, LNKE, 0 },
                Package () { 0x0006FFFF, 3, LNKF, 0 },
                Package () { 0x0007FFFF, 0, LNKH, 0 },
                Package () { 0x0007FFFF, 1, LNKE, 0 },
                Package () { 0x0007FFFF, 2, LNKF, 0 },
                Package () { 0x0007FFFF, 3, LNKG, 0 },
                Package () { 0x0008FFFF, 0, LNKE, 0 },
                Package () { 0x0008FFFF, 1, LNKF, 0 },
                Package () { 0x0008FFFF, 2, LNKG, 0 },
                Package () { 0x0008FFFF, 3, LNKH, 0 },
                Package () { 0x0009FFFF, 0, LNKF, 0 },
                Package () { 0x0009FFFF, 1, LNKG, 0 },
                Package () { 0x0009FFFF, 2, LNKH, 0 },
                Package () { 0x0009FFFF, 3, LNKE, 0 },
                Package () { 0x000AFFFF, 0, LNKG, 0 },
                Package () { 0x000AFFFF, 1, LNKH, 0 },
                Package () { 0x000AFFFF, 2, LNKE, 0 },
                Package () { 0x000AFFFF, 3, LNKF, 0 },
                Package () { 0x000BFFFF, 0, LNKH, 0 },
                Package () { 0x000BFFFF, 1, LNKE, 0 },
                Package () { 0x000BFFFF, 2, LNKF, 0 },
                Package () { 0x000BFFFF, 3, LNKG, 0 },
                Package () { 0x000CFFFF, 0, LNKE, 0 },
                Package () { 0x000CFFFF, 1, LNKF, 0 },
                Package () { 0x000CFFFF, 2, LNKG, 0 },
                Package () { 0x000CFFFF, 3, LNKH, 0 },
                Package () { 0x000DFFFF, 0, LNKF, 0 },
                Package () { 0x000DFFFF, 1, LNKG, 0 },
                Package () { 0x000DFFFF, 2, LNKH, 0 },
                Package () { 0x000DFFFF, 3, LNKE, 0 },
                Package () { 0x000EFFFF, 0, LNKG, 0 },
                Package () { 0x000EFFFF, 1, LNKH, 0 },
                Package () { 0x000EFFFF, 2, LNKE, 0 },
                Package () { 0x000EFFFF, 3, LNKF, 0 },
                Package () { 0x000FFFFF, 0, LNKH, 0 },
                Package () { 0x000FFFFF, 1, LNKE, 0 },
                Package () { 0x000FFFFF, 2, LNKF, 0 },
                Package () { 0x000FFFFF, 3, LNKG, 0 },
                Package () { 0x0010FFFF, 0, LNKE, 0 },
                Package () { 0x0010FFFF, 1, LNKF, 0 },
                Package () { 0x0010FFFF, 2, LNKG, 0 },
                Package () { 0x0010FFFF, 3, LNKH, 0 },
                Package () { 0x0011FFFF, 0, LNKF, 0 },
                Package () { 0x0011FFFF, 1, LNKG, 0 },
                Package () { 0x0011FFFF, 2, LNKH, 0 },
                Package () { 0x0011FFFF, 3, LNKE, 0 },
                Package () { 0x0012FFFF, 0, LNKG, 0 },
                Package () { 0x0012FFFF, 1, LNKH, 0 },
                Package () { 0x0012FFFF, 2, LNKE, 0 },
                Package () { 0x0012FFFF, 3, LNKF, 0 },
                Package () { 0x0013FFFF, 0, LNKH, 0 },
                Package () { 0x0013FFFF, 1, LNKE, 0 },
                Package () { 0x0013FFFF, 2, LNKF, 0 },
                Package () { 0x0013FFFF, 3, LNKG, 0 },
                Package () { 0x0014FFFF, 0, LNKE, 0 },
                Package () { 0x0014FFFF, 1, LNKF, 0 },
                Package () { 0x0014FFFF, 2, LNKG, 0 },
                Package () { 0x0014FFFF, 3, LNKH, 0 },
                Package () { 0x0015FFFF, 0, LNKF, 0 },
                Package () { 0x0015FFFF, 1, LNKG, 0 },
                Package () { 0x0015FFFF, 2, LNKH, 0 },
                Package () { 0x0015FFFF, 3, LNKE, 0 },
                Package () { 0x0016FFFF, 0, LNKG, 0 },
                Package () { 0x0016FFFF, 1, LNKH, 0 },
                Package () { 0x0016FFFF, 2, LNKE, 0 },
                Package () { 0x0016FFFF, 3, LNKF, 0 },
                Package () { 0x0017FFFF, 0, LNKH, 0 },
                Package () { 0x0017FFFF, 1, LNKE, 0 },
                Package () { 0x0017FFFF, 2, LNKF, 0 },
                Package () { 0x0017FFFF, 3, LNKG, 0 },
                Package () { 0x0018FFFF, 0, LNKE, 0 },
                Package () { 0x0018FFFF, 1, LNKF, 0 },
                Package () { 0x0018FFFF, 2, LNKG, 0 },
                Package () { 0x0018FFFF, 3, LNKH, 0 },
                Package () { 0x0019FFFF, 0, LNKA, 0 },
                Package () { 0x0019FFFF, 1, LNKB, 0 },
                Package () { 0x0019FFFF, 2, LNKC, 0 },
                Package () { 0x0019FFFF, 3, LNKD, 0 },
                Package () { 0x001AFFFF, 0, LNKA, 0 },
                Package () { 0x001AFFFF, 1, LNKB, 0 },
                Package () { 0x001AFFFF, 2, LNKC, 0 },
                Package () { 0x001AFFFF, 3, LNKD, 0 },
                Package () { 0x001BFFFF, 0, LNKA, 0 },
                Package () { 0x001BFFFF, 1, LNKB, 0 },
                Package () { 0x001BFFFF, 2, LNKC, 0 },
                Package () { 0x001BFFFF, 3, LNKD, 0 },
                Package () { 0x001CFFFF, 0, LNKA, 0 },
                Package () { 0x001CFFFF, 1, LNKB, 0 },
                Package () { 0x001CFFFF, 2, LNKC, 0 },
                Package () { 0x001CFFFF, 3, LNKD, 0 },
                Package () { 0x001DFFFF, 0, LNKA, 0 },
                Package () { 0x001DFFFF, 1, LNKB, 0 },
                Package () { 0x001DFFFF, 2, LNKC, 0 },
                Package () { 0x001DFFFF, 3, LNKD, 0 },
                Package () { 0x001EFFFF, 0, LNKA, 0 },
                Package () { 0x001EFFFF, 1, LNKB, 0 },
                Package () { 0x001EFFFF, 2, LNKC, 0 },
                Package () { 0x001EFFFF, 3, LNKD, 0 },
                Package () { 0x001FFFFF, 0, LNKA, 0 },
                Package () { 0x001FFFFF, 1, LNKB, 0 },
                Package () { 0x001FFFFF, 2, LNKC, 0 },
                Package () { 0x001FFFFF, 3, LNKD, 0 }
            })
            Name (PRTA, Package ()
            {
                Package () { 0x0001FFFF, 0, 0, 21 },
                Package () { 0x0001FFFF, 1, 0, 22 },
                Package () { 0x0001FFFF, 2, 0, 23 },
                Package () { 0x0001FFFF, 3, 0, 20 },
                Package () { 0x0002FFFF, 0, 0, 22 },
                Package () { 0x0002FFFF, 1, 0, 23 },
                Package () { 0x0002FFFF, 2, 0, 20 },
                Package () { 0x0002FFFF, 3, 0, 21 },
                Package () { 0x0003FFFF, 0, 0, 23 },
                Package () { 0x0003FFFF, 1, 0, 20 },
                Package () { 0x0003FFFF, 2, 0, 21 },
                Package () { 0x0003FFFF, 3, 0, 22 },
                Package () { 0x0004FFFF, 0, 0, 20 },
                Package () { 0x0004FFFF, 1, 0, 21 },
                Package () { 0x0004FFFF, 2, 0, 22 },
                Package () { 0x0004FFFF, 3, 0, 23 },
                Package () { 0x0005FFFF, 0, 0, 21 },
                Package () { 0x0005FFFF, 1, 0, 22 },
                Package () { 0x0005FFFF, 2, 0, 23 },
                Package () { 0x0005FFFF, 3, 0, 20 },
                Package () { 0x0006FFFF, 0, 0, 22 },
                Package () { 0x0006FFFF, 1, 0, 23 },
                Package () { 0x0006FFFF, 2, 0, 20 },
                Package () { 0x0006FFFF, 3, 0, 21 },
                Package () { 0x0007FFFF, 0, 0, 23 },
                Package () { 0x0007FFFF, 1, 0, 20 },
                Package () { 0x0007FFFF, 2, 0, 21 },
                Package () { 0x0007FFFF, 3, 0, 22 },
                Package () { 0x0008FFFF, 0, 0, 20 },
                Package () { 0x0008FFFF, 1, 0, 21 },
                Package () { 0x0008FFFF, 2, 0, 22 },
                Package () { 0x0008FFFF, 3, 0, 23 },
                Package () { 0x0009FFFF, 0, 0, 21 },
                Package () { 0x0009FFFF, 1, 0, 22 },
                Package () { 0x0009FFFF, 2, 0, 23 },
                Package () { 0x0009FFFF, 3, 0, 20 },
                Package () { 0x000AFFFF, 0, 0, 22 },
                Package () { 0x000AFFFF, 1, 0, 23 },
                Package () { 0x000AFFFF, 2, 0, 20 },
                Package () { 0x000AFFFF, 3, 0, 21 },
                Package () { 0x000BFFFF, 0, 0, 23 },
                Package () { 0x000BFFFF, 1, 0, 20 },
                Package () { 0x000BFFFF, 2, 0, 21 },
                Package () { 0x000BFFFF, 3, 0, 22 },
                Package () { 0x000CFFFF, 0, 0, 20 },
                Package () { 0x000CFFFF, 1, 0, 21 },
                Package () { 0x000CFFFF, 2, 0, 22 },
                Package () { 0x000CFFFF, 3, 0, 23 },
                Package () { 0x000DFFFF, 0, 0, 21 },
                Package () { 0x000DFFFF, 1, 0, 22 },
                Package () { 0x000DFFFF, 2, 0, 23 },
                Package () { 0x000DFFFF, 3, 0, 20 },
                Package () { 0x000EFFFF, 0, 0, 22 },
                Package () { 0x000EFFFF, 1, 0, 23 },
                Package () { 0x000EFFFF, 2, 0, 20 },
                Package () { 0x000EFFFF, 3, 0, 21 },
                Package () { 0x000FFFFF, 0, 0, 23 },
                Package () { 0x000FFFFF, 1, 0, 20 },
                Package () { 0x000FFFFF, 2, 0, 21 },
                Package () { 0x000FFFFF, 3, 0, 22 },
                Package () { 0x0010FFFF, 0, 0, 20 },
                Package () { 0x0010FFFF, 1, 0, 21 },
                Package () { 0x0010FFFF, 2, 0, 22 },
                Package () { 0x0010FFFF, 3, 0, 23 },
                Package () { 0x0011FFFF, 0, 0, 21 },
                Package () { 0x0011FFFF, 1, 0, 22 },
                Package () { 0x0011FFFF, 2, 0, 23 },
                Package () { 0x0011FFFF, 3, 0, 20 },
                Package () { 0x0012FFFF, 0, 0, 22 },
                Package () { 0x0012FFFF, 1, 0, 23 },
                Package () { 0x0012FFFF, 2, 0, 20 },
                Package () { 0x0012FFFF, 3, 0, 21 },
                Package () { 0x0013FFFF, 0, 0, 23 },
                Package () { 0x0013FFFF, 1, 0, 20 },
                Package () { 0x0013FFFF, 2, 0, 21 },
                Package () { 0x0013FFFF, 3, 0, 22 },
                Package () { 0x0014FFFF, 0, 0, 20 },
                Package () { 0x0014FFFF, 1, 0, 21 },
                Package () { 0x0014FFFF, 2, 0, 22 },
                Package () { 0x0014FFFF, 3, 0, 23 },
                Package () { 0x0015FFFF, 0, 0, 21 },
                Package () { 0x0015FFFF, 1, 0, 22 },
                Package () { 0x0015FFFF, 2, 0, 23 },
                Package () { 0x0015FFFF, 3, 0, 20 },
                Package () { 0x0016FFFF, 0, 0, 22 },
                Package () { 0x0016FFFF, 1, 0, 23 },
                Package () { 0x0016FFFF, 2, 0, 20 },
                Package () { 0x0016FFFF, 3, 0, 21 },
                Package () { 0x0017FFFF, 0, 0, 23 },
                Package () { 0x0017FFFF, 1, 0, 20 },
                Package () { 0x0017FFFF, 2, 0, 21 },
                Package () { 0x0017FFFF, 3, 0, 22 },
                Package () { 0x0018FFFF, 0, 0, 20 },
                Package () { 0x0018FFFF, 1, 0, 21 },
                Package () { 0x0018FFFF, 2, 0, 22 },
                Package () { 0x0018FFFF, 3, 0, 23 },
                Package () { 0x0019FFFF, 0, 0, 16 },
                Package () { 0x0019FFFF, 1, 0, 17 },
                Package () { 0x0019FFFF, 2, 0, 18 },
                Package () { 0x0019FFFF, 3, 0, 19 },
                Package () { 0x001AFFFF, 0, 0, 16 },
                Package () { 0x001AFFFF, 1, 0, 17 },
                Package () { 0x001AFFFF, 2, 0, 18 },
                Package () { 0x001AFFFF, 3, 0, 19 },
                Package () { 0x001BFFFF, 0, 0, 16 },
                Package () { 0x001BFFFF, 1, 0, 17 },
                Package () { 0x001BFFFF, 2, 0, 18 },
                Package () { 0x001BFFFF, 3, 0, 19 },
                Package () { 0x001CFFFF, 0, 0, 16 },
                Package () { 0x001CFFFF, 1, 0, 17 },
                Package () { 0x001CFFFF, 2, 0, 18 },
                Package () { 0x001CFFFF, 3, 0, 19 },
                Package () { 0x001DFFFF, 0, 0, 16 },
                Package () { 0x001DFFFF, 1, 0, 17 },
                Package () { 0x001DFFFF, 2, 0, 18 },
                Package () { 0x001DFFFF, 3, 0, 19 },
                Package () { 0x001EFFFF, 0, 0, 16 },
                Package () { 0x001EFFFF, 1, 0, 17 },
                Package () { 0x001EFFFF, 2, 0, 18 },
                Package () { 0x001EFFFF, 3, 0, 19 },
                Package () { 0x001FFFFF, 0, 0, 16 },
                Package () { 0x001FFFFF, 1, 0, 17 },
                Package () { 0x001FFFFF, 2, 0, 18 },
                Package () { 0x001FFFFF, 3, 0, 19 }
            })
            Method (_PRT, 0, NotSerialized)
            {
                If (PICF) { Return (PRTA) }
                Return (PRTP)
            }
            Device (LPC)
            {
                Name (_ADR, 0x001F0000)
                OperationRegion (PIRQ, PCI_Config, 0x60, 0x0C)
                Field (PIRQ, ByteAcc, NoLock, Preserve)
                {
                    PRA, 8, PRB, 8, PRC, 8, PRD, 8,
                    Offset (8),
                    PRE, 8, PRF, 8, PRG, 8, PRH, 8
                }
                Device (RTC0)
                {
                    Name (_HID, EisaId ("PNP0B00"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x70, 0x70, 1, 2)
                        IRQNoFlags () { 8 }
                    })
                }
                Device (PIC0)
                {
                    Name (_HID, EisaId ("PNP0000"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x20, 0x20, 1, 2)
                        IO (Decode16, 0xA0, 0xA0, 1, 2)
                        IRQNoFlags () { 2 }
                    })
                }
                Device (TIM0)
                {
                    Name (_HID, EisaId ("PNP0100"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x40, 0x40, 1, 4)
                        IRQNoFlags () { 0 }
                    })
                }
                Device (KBD)
                {
                    Name (_HID, EisaId ("PNP0303"))
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x60, 0x60, 1, 1)
                        IO (Decode16, 0x64, 0x64, 1, 1)
                        IRQNoFlags () { 1 }
                    })
                }
                Device (MOU)
                {
                    Name (_HID, EisaId ("PNP0F13"))
                    Name (_CRS, ResourceTemplate () { IRQNoFlags () { 12 } })
                }
                Device (COM1)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 1)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x3F8, 0x3F8, 1, 8)
                        IRQNoFlags () { 4 }
                    })
                }
                Device (COM2)
                {
                    Name (_HID, EisaId ("PNP0501"))
                    Name (_UID, 2)
                    Name (_CRS, ResourceTemplate ()
                    {
                        IO (Decode16, 0x2F8, 0x2F8, 1, 8)
                        IRQNoFlags () { 3 }
                    })
                }
            }
            Device (LNKA)
            {
                Name (_HID, EisaId ("PNP0C0F"))
                Name (_UID, 1)
                Name (_PRS, ResourceTemplate () { IRQ (Level, ActiveLow, Shared) { 5, 10, 11 } })
                Method (_STA, 0, NotSerialized) { Return (LSTA (^^LPC.PRA)) }
                Method (_DIS, 0, Serialized) { ^^LPC.PRA |= 0x80 }
                Method (_CRS, 0, Serialized) { Return (LCRS (^^LPC.PRA)) }
                Method (_SRS, 1, Serialized) { ^^LPC.PRA = LIRQ (Arg0) }
            }
            Device (LNKB)
            {
                Name (_HID, EisaId ("PNP0C0F"))
                Name (_UID, 2)
                Name (_PRS, ResourceTemplate () { IRQ (Level, ActiveLow, Shared) { 5, 10, 11 } })
                Method (_STA, 0, NotSerialized) { Return (LSTA (^^LPC.PRB)) }
                Method (_DIS, 0, Serialized) { ^^LPC.PRB |= 0x80 }
                Method (_CRS, 0, Serialized) { Return (LCRS (^^LPC.PRB)) }
                Method (_SRS, 1, Serialized) { ^^LPC.PRB = LIRQ (Arg0) }
            }
            Device (LNKC)
            {
                Name (_HID, EisaId ("PNP0C0F"))
                Name (_UID, 3)
                Name (_PRS, ResourceTemplate () { IRQ (Level, ActiveLow, Shared) { 5, 10, 11 } })
                Method (_STA, 0, NotSerialized) { Return (LSTA (^^LPC.PRC)) }
                Method (_DIS, 0, Serialized) { ^^LPC.PRC |= 0x80 }
                Method (_CRS, 0, Serialized) { Return (LCRS (^^LPC.PRC)) }
                Method (_SRS, 1, Serialized) { ^^LPC.PRC = LIRQ (Arg0) }
            }
            Device (LNKD)
            {
                Name (_HID, EisaId ("PNP0C0F"))
                Name (_UID, 4)
                Name (_PRS, ResourceTemplate () { IRQ (Level, ActiveLow, Shared) { 5, 10, 11 } })
                Method (_STA, 0, NotSerialized) { Return (LSTA (^^LPC.PRD)) }
                Method (_DIS, 0, Serialized) { ^^LPC.PRD |= 0x80 }
                Method (_CRS, 0, Serialized) { Return (LCRS (^^LPC.PRD)) }
                Method (_SRS, 1, Serialized) { ^^LPC.PRD = LIRQ (Arg0) }
            }
            Device (LNKE)
            {
                Name (_HID, EisaId ("PNP0C0F"))
                Name (_UID, 5)
                Name (_PRS, ResourceTemplate () { IRQ (Level, ActiveLow, Shared) { 5, 10, 11 } })
                Method (_STA, 0, NotSerialized) { Return (LSTA (^^LPC.PRE)) }
                Method (_DIS, 0, Serialized) { ^^LPC.PRE |= 0x80 }
                Method (_CRS, 0, Serialized) { Return (LCRS (^^LPC.PRE)) }
                Method (_SRS, 1, Serialized) { ^^LPC.PRE = LIRQ (Arg0) }
            }
            Device (LNKF)
            {
                Name (_HID, EisaId ("PNP0C0F"))
                Name (_UID, 6)
                Name (_PRS, ResourceTemplate () { IRQ (Level, ActiveLow, Shared) { 5, 10, 11 } })
                Method (_STA, 0, NotSerialized) { Return (LSTA (^^LPC.PRF)) }
                Method (_DIS, 0, Serialized) { ^^LPC.PRF |= 0x80 }
                Method (_CRS, 0, Serialized) { Return (LCRS (^^LPC.PRF)) }
                Method (_SRS, 1, Serialized) { ^^LPC.PRF = LIRQ (Arg0) }
            }
            Device (LNKG)
            {
                Name (_HID, EisaId ("PNP0C0F"))
                Name (_UID, 7)
                Name (_PRS, ResourceTemplate () { IRQ (Level, ActiveLow, Shared) { 5, 10, 11 } })
                Method (_STA, 0, NotSerialized) { Return (LSTA (^^LPC.PRG)) }
                Method (_DIS, 0, Serialized) { ^^LPC.PRG |= 0x80 }
                Method (_CRS, 0, Serialized) { Return (LCRS (^^LPC.PRG)) }
                Method (_SRS, 1, Serialized) { ^^LPC.PRG = LIRQ (Arg0) }
            }
            Device (LNKH)
            {
                Name (_HID, EisaId ("PNP0C0F"))
                Name (_UID, 8)
                Name (_PRS, ResourceTemplate () { IRQ (Level, ActiveLow, Shared) { 5, 10, 11 } })
                Method (_STA, 0, NotSerialized) { Return (LSTA (^^LPC.PRH)) }
                Method (_DIS, 0, Serialized) { ^^LPC.PRH |= 0x80 }
                Method (_CRS, 0, Serialized) { Return (LCRS (^^LPC.PRH)) }
                Method (_SRS, 1, Serialized) { ^^LPC.PRH = LIRQ (Arg0) }
            }
        }
        Device (HPET)
        {
            Name (_HID, EisaId ("PNP0103"))
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate () { Memory32Fixed (ReadOnly, 0xFED00000, 0x400) })
        }
        /* What no window may use: ECAM, PM registers, APICs, RCBA. */
        Device (RSV0)
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_UID, 1)
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadWrite, 0xB0000000, 0x10000000)
                Memory32Fixed (ReadWrite, 0xFED1C000, 0x4000)
                IO (Decode16, 0x0600, 0x0600, 1, 0x80)
                IO (Decode16, 0x0510, 0x0510, 1, 0x0C)
            })
        }
    }
}
