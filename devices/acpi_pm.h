/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ACPI power management registers of the ICH9, at the I/O base that the LPC bridge says.
 */
#pragma once

#include "device.h"

enum acpi_pm_event { ACPI_PM_POWER_OFF, ACPI_PM_SUSPEND, ACPI_PM_WATCHDOG };

struct acpi_pm_config {
    struct irq sci;
    void (*event)(void *opaque, enum acpi_pm_event event);
    void *opaque;
};

extern const struct device_class acpi_pm_device;

void acpi_pm_map(void *pm, uint16_t base); /* 0: not decoded */
void acpi_pm_set_acpi(void *pm, bool on);  /* SCI_EN, as the SMI handler would */
void acpi_pm_power_button(void *pm);
void acpi_pm_set_no_reboot(void *pm, bool on); /* GCS.NR: the watchdog resets nothing */
