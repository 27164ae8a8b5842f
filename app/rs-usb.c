/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The USB devices of this computer (see rs-usb.h). */
#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n-lib.h>
#include <stdio.h>
#include <string.h>

#include "rs-usb.h"

#define SYSFS      "/sys/bus/usb/devices"
#define BLOCKS     "/sys/class/block"
#define NODES      "/dev/bus/usb"
#define TEXT_CHARS 80
#define RULE_FILE  "70-ringside-usb.rules"

enum { CLASS_AUDIO = 1, CLASS_HID = 3, CLASS_HUB = 9 };

/* --- reading sysfs --- */

/* An attribute's text, made harmless; NULL when it is not there or empty. */
static char *attribute(const char *folder, const char *name)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    g_autofree char *text = NULL, *valid = NULL;
    GString *clean;
    unsigned n = 0;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return NULL;
    }
    valid = g_utf8_make_valid(g_strstrip(text), -1);
    clean = g_string_new(NULL);
    for (const char *p = valid; *p && n < TEXT_CHARS; p = g_utf8_next_char(p), n++) {
        gunichar c = g_utf8_get_char(p);
        g_string_append_unichar(clean, g_unichar_isprint(c) ? c : ' ');
    }
    g_strstrip(clean->str);
    return g_string_free(clean, !*clean->str);
}

static unsigned number(const char *folder, const char *name, unsigned base)
{
    g_autofree char *text = attribute(folder, name);

    return text ? (unsigned)g_ascii_strtoull(text, NULL, base) : 0;
}

static GPtrArray *names_in(const char *folder)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_ptr_array_add(names, g_strdup(name));
    }
    return names;
}

/* --- disks that are in use --- */

static bool word_in_file(const char *path, const char *word)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return false;
    }
    lines = g_strsplit(text, "\n", -1);
    for (unsigned i = 0; lines[i]; i++) {
        g_auto(GStrv) words = g_strsplit_set(lines[i], " \t", -1);
        if (g_strv_contains((const char *const *)words, word)) {
            return true;
        }
    }
    return false;
}

/* Mounted (mountinfo has the number, and the node where that is not the file system's number),
 * swapped to, or below LVM, RAID, encryption. */
static bool block_in_use(const char *name)
{
    g_autofree char *folder = g_build_filename(BLOCKS, name, NULL);
    g_autofree char *holders = g_build_filename(folder, "holders", NULL);
    g_autofree char *id = attribute(folder, "dev");
    g_autofree char *node = g_build_filename("/dev", name, NULL);
    g_autoptr(GPtrArray) above = names_in(holders);

    return above->len || (id && word_in_file("/proc/self/mountinfo", id)) ||
           word_in_file("/proc/self/mountinfo", node) || word_in_file("/proc/swaps", node);
}

/* The disks and partitions of a device are those whose sysfs folder is below its own. */
static bool disk_in_use(const char *folder)
{
    g_autofree char *own = realpath(folder, NULL);
    g_autofree char *prefix = own ? g_strconcat(own, "/", NULL) : NULL;
    g_autoptr(GPtrArray) blocks = names_in(BLOCKS);

    for (unsigned i = 0; prefix && i < blocks->len; i++) {
        g_autofree char *link = g_build_filename(BLOCKS, blocks->pdata[i], NULL);
        g_autofree char *real = realpath(link, NULL);
        if (real && g_str_has_prefix(real, prefix) && block_in_use(blocks->pdata[i])) {
            return true;
        }
    }
    return false;
}

/* --- one device --- */

static const char *class_icon(unsigned class, unsigned protocol)
{
    static const struct {
        unsigned class;
        const char *icon;
    } icons[] = {
        {CLASS_AUDIO, "audio-card-symbolic"}, {2, "modem-symbolic"},
        {6, "camera-photo-symbolic"},         {7, "printer-symbolic"},
        {8, "drive-harddisk-usb-symbolic"},   {CLASS_HUB, "network-workgroup-symbolic"},
        {0xe, "camera-web-symbolic"},         {0xe0, "bluetooth-active-symbolic"},
    };

    if (class == CLASS_HID) {
        return protocol == 1   ? "input-keyboard-symbolic"
               : protocol == 2 ? "input-mouse-symbolic"
                               : "input-gaming-symbolic";
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(icons); i++) {
        if (icons[i].class == class) {
            return icons[i].icon;
        }
    }
    return NULL;
}

static void add_holder(GString *holders, const char *interface)
{
    g_autofree char *link = g_build_filename(interface, "driver", NULL);
    g_autofree char *target = g_file_read_link(link, NULL);
    g_autofree char *driver = target ? g_path_get_basename(target) : NULL;

    if (driver && !strstr(holders->str, driver)) {
        g_string_append_printf(holders, "%s%s", holders->len ? ", " : "", driver);
    }
}

static void look_at_interface(RsUsbDevice *device, const char *folder, GString *holders)
{
    unsigned class = number(folder, "bInterfaceClass", 16);
    unsigned protocol = number(folder, "bInterfaceProtocol", 16);

    device->reasons |= class == CLASS_HID && protocol == 1 ? RS_USB_KEYBOARD : 0;
    device->reasons |= class == CLASS_HID && protocol == 2 ? RS_USB_MOUSE : 0;
    device->reasons |= class == CLASS_HUB ? RS_USB_HUB : 0;
    device->icon = device->icon ? device->icon : class_icon(class, protocol);
    add_holder(holders, folder);
}

/* Interfaces are folders "1-4.2:1.0". */
static void look_at_interfaces(RsUsbDevice *device, const char *folder)
{
    g_autofree char *prefix = g_strconcat(device->port, ":", NULL);
    g_autoptr(GPtrArray) names = names_in(folder);
    GString *holders = g_string_new(NULL);

    for (unsigned i = 0; i < names->len; i++) {
        if (g_str_has_prefix(names->pdata[i], prefix)) {
            g_autofree char *path = g_build_filename(folder, names->pdata[i], NULL);
            look_at_interface(device, path, holders);
        }
    }
    device->holder = g_string_free(holders, holders->len == 0);
}

static char *device_name(const RsUsbDevice *device, const char *folder)
{
    g_autofree char *maker = attribute(folder, "manufacturer");
    g_autofree char *product = attribute(folder, "product");

    if (!product) {
        return g_strdup_printf(_("%s device %04x:%04x"), maker ? maker : "USB", device->vendor,
                               device->product);
    }
    return maker && !g_str_has_prefix(product, maker) ? g_strdup_printf("%s %s", maker, product)
                                                      : g_strdup(product);
}

/* The number of its node. devnum is 0 while the device is being reset, its character device stays
 * what it is: 128 for each bus. */
static unsigned node_number(const char *folder)
{
    unsigned address = number(folder, "devnum", 10);
    g_autofree char *dev = address ? NULL : attribute(folder, "dev");
    const char *minor = dev ? strchr(dev, ':') : NULL;

    return minor ? (unsigned)g_ascii_strtoull(minor + 1, NULL, 10) % 128 + 1 : address;
}

static RsUsbDevice *device_read(const char *port)
{
    g_autofree char *folder = g_build_filename(SYSFS, port, NULL);
    unsigned bus = number(folder, "busnum", 10), address = node_number(folder);
    RsUsbDevice *device;

    if (!bus || !address) {
        return NULL;
    }
    device = g_new0(RsUsbDevice, 1);
    device->port = g_strdup(port);
    device->node = g_strdup_printf(NODES "/%03u/%03u", bus, address);
    device->vendor = (uint16_t)number(folder, "idVendor", 16);
    device->product = (uint16_t)number(folder, "idProduct", 16);
    device->serial = attribute(folder, "serial");
    device->name = device_name(device, folder);
    device->reasons = number(folder, "bDeviceClass", 16) == CLASS_HUB ? RS_USB_HUB : 0;
    look_at_interfaces(device, folder);
    device->reasons |= disk_in_use(folder) ? RS_USB_DISK : 0;
    device->icon = device->icon ? device->icon : "media-removable-symbolic";
    return device;
}

void rs_usb_device_free(RsUsbDevice *device)
{
    if (device) {
        g_free(device->port);
        g_free(device->node);
        g_free(device->name);
        g_free(device->serial);
        g_free(device->holder);
        g_free(device);
    }
}

RsUsbDevice *rs_usb_device_copy(const RsUsbDevice *device)
{
    RsUsbDevice *copy = g_memdup2(device, sizeof *device);

    copy->port = g_strdup(device->port);
    copy->node = g_strdup(device->node);
    copy->name = g_strdup(device->name);
    copy->serial = g_strdup(device->serial);
    copy->holder = g_strdup(device->holder);
    return copy;
}

struct usb_identity rs_usb_identity(const RsUsbDevice *device)
{
    return (struct usb_identity){device->vendor, device->product, device->serial, device->port};
}

static int by_port(gconstpointer a, gconstpointer b)
{
    return strcmp((*(RsUsbDevice *const *)a)->port, (*(RsUsbDevice *const *)b)->port);
}

/* Interfaces have a colon in their names, root hubs are "usb1" and so on. */
GPtrArray *rs_usb_list(void)
{
    g_autoptr(GPtrArray) names = names_in(SYSFS);
    GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify)rs_usb_device_free);

    for (unsigned i = 0; i < names->len; i++) {
        RsUsbDevice *device = usb_port_valid(names->pdata[i]) ? device_read(names->pdata[i]) : NULL;
        if (device) {
            g_ptr_array_add(list, device);
        }
    }
    g_ptr_array_sort(list, by_port);
    return list;
}

bool rs_usb_list_has(GPtrArray *list, const RsUsbDevice *device)
{
    for (unsigned i = 0; i < list->len; i++) {
        const RsUsbDevice *other = list->pdata[i];
        if (!strcmp(other->node, device->node) && !strcmp(other->port, device->port)) {
            return true;
        }
    }
    return false;
}

char *rs_usb_why_not(const RsUsbDevice *device)
{
    const char *why = NULL;

    if (device->reasons & RS_USB_DISK) {
        why = _("%s is a disk that this computer is using; it would lose data.");
    } else if (device->reasons & RS_USB_HUB) {
        why = _("%s is a hub; this computer would lose everything that is plugged into it.");
    } else if (device->reasons & RS_USB_KEYBOARD) {
        why = _("%s is a keyboard of this computer, which would be left without it.");
    } else if (device->reasons & RS_USB_MOUSE) {
        why = _("%s is a mouse of this computer, which would be left without it.");
    }
    return why ? g_strdup_printf(why, device->name) : NULL;
}

int rs_usb_open(const RsUsbDevice *device, GError **error)
{
    int fd = open(device->node, O_RDWR | O_CLOEXEC);

    if (fd >= 0) {
        return fd;
    }
    if (errno == EACCES || errno == EPERM) {
        g_set_error(
            error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
            _("You may not use the USB device %s (%s): copy %s to /etc/udev/rules.d, which gives "
              "the devices to whoever sits at this computer, and plug the device in again."),
            device->name, device->node, RS_USB_RULES "/" RULE_FILE);
    } else {
        g_set_error(error, G_IO_ERROR, g_io_error_from_errno(errno),
                    _("The USB device %s cannot be opened (%s): %s."), device->name, device->node,
                    g_strerror(errno));
    }
    return -1;
}
