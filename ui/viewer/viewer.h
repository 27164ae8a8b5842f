/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ringside-viewer: one machine's screen over a whole monitor, by SDL2. A client of the machine's
 * control socket like any other; it runs in a process of its own, since SDL and GTK do not share
 * one well.
 *
 * main.c starts and ends it, events.c has SDL's events as a GSource and what they do, picture.c
 * draws, cursor.c has the guest's cursor, bar.c is the bar at the upper edge, usb.c the list below it, keys.c knows the keyboard,
 * pads.c has game controllers, seat.c sees pointers come.
 */
#pragma once

#include <SDL.h>
#include <cairo.h>
#include <pango/pangocairo.h>

#include "rs-machine.h"

/* What the console that started us makes of it. */
enum { VIEWER_LEFT = 0, VIEWER_FAILED = 1, VIEWER_NO_SCREEN = 3 };

typedef enum { BAR_LEAVE, BAR_MINIMISE, BAR_DELETE, BAR_USB, BAR_PAUSE, BAR_ITEMS } BarItem;

typedef struct _UsbList UsbList;
typedef struct _UsbNews UsbNews;
typedef struct _Pads Pads;
typedef struct _Seats Seats;

typedef struct {
    GMainLoop *loop;
    RsMachine *machine;
    SDL_Window *window;
    int status;
    bool started; /* by us: its first size means nothing */
    bool resize;  /* ask the guest for the monitor's size */
    int asked_width, asked_height;
    unsigned first_width, first_height; /* what the guest had before, 0: not known */
    unsigned ask; /* source */

    /* picture.c */
    RsFrame *frame;
    cairo_surface_t *guest; /* the frame's pixels, ours */
    bool integer;           /* whole factors only */
    bool original;          /* not enlarged */
    double factor;          /* where the guest's screen is in the window's, in device pixels */
    int x, y, width, height;
    cairo_region_t *damage; /* of the window, to be drawn */
    unsigned redraw;        /* source */
    char *notice;           /* over the picture; NULL: nothing */
    unsigned notice_timer;

    /* cursor.c */
    SDL_Cursor *cursor;   /* the guest's, NULL: not made */
    double cursor_factor; /* that it was made for */
    cairo_rectangle_int_t cursor_drawn; /* over the picture; width 0: not at all */

    /* bar.c */
    bool bar_shown, bar_keyboard; /* its keys go to the bar */
    int bar_hover;                /* item under the pointer or chosen by keys; -1 */
    struct {
        int x, width;
    } bar_item[BAR_ITEMS];

    UsbList *usb; /* NULL: not shown */
    UsbNews *news;
    Pads *pads;   /* NULL: there can be none */

    /* events.c */
    bool focused, captured; /* the pointer moves relatively */
    uint8_t held[768];
    bool chord;
    unsigned buttons;
    struct {
        bool absolute, relative;
        int x, y, wheel;
    } motion; /* not yet sent */
    int pointer_x, pointer_y;
} Viewer;

/* main.c: the window's size, or what the guest can make of it, may have changed. */
void viewer_ask_size(Viewer *v);

/* keys.c: a Linux input event code, 0 when there is none. */
unsigned viewer_key_code(SDL_Scancode scancode);

/* picture.c */
void picture_set_frame(Viewer *v, RsFrame *frame);
void picture_damage(Viewer *v, unsigned x, unsigned y, unsigned width, unsigned height);
void picture_redraw(Viewer *v); /* everything, soon */
void picture_redraw_part(Viewer *v, int x, int y, int width, int height);
/* For `seconds`, 0: until the next one; NULL: none any more. */
void picture_notice(Viewer *v, const char *text, unsigned seconds);
void picture_clear(Viewer *v);
double picture_scale(Viewer *v); /* of text and buttons */
/* A line of text, `size` points times that; the caller's. */
PangoLayout *picture_text(Viewer *v, cairo_t *cr, const char *text, int size, bool bold);

/* cursor.c */
void cursor_changed(Viewer *v, gboolean image); /* the machine's signal */
void cursor_show(Viewer *v, bool ours);         /* our own pointer, or what the guest has */
void cursor_draw(Viewer *v, cairo_t *cr);
void cursor_clear(Viewer *v);

/* bar.c */
void bar_show(Viewer *v, bool shown, bool keyboard);
int bar_height(Viewer *v);
void bar_draw(Viewer *v, cairo_t *cr);
void bar_motion(Viewer *v, int x, int y);
void bar_click(Viewer *v, int x, int y);
void bar_key(Viewer *v, SDL_Scancode scancode);

/* usb.c: the others only while it is shown. `motion` and `click`: was it in the list? */
void usb_show(Viewer *v, bool shown);
void usb_draw(Viewer *v, cairo_t *cr);
bool usb_motion(Viewer *v, int x, int y);
bool usb_click(Viewer *v, int x, int y);
void usb_key(Viewer *v, SDL_Scancode scancode);
void usb_news_begin(Viewer *v);
void usb_news_end(Viewer *v);

/* pads.c */
void pads_open(Viewer *v);
void pads_close(Viewer *v);
void pads_plug(Viewer *v); /* the machine can have them now */
void pads_event(Viewer *v, const SDL_Event *e);
void pads_tell(Viewer *v); /* after all events that were there */
void pads_take(Viewer *v); /* they are the guest's again */
int pads_poll_ms(Viewer *v); /* -1: need not be polled */

/* events.c */
GSource *events_source_new(Viewer *v);
void events_release(Viewer *v); /* what the guest holds; pointer and keyboard are ours again */
void events_take(Viewer *v);    /* pointer and keyboard are the guest's */
void events_update_pointer(Viewer *v); /* the guest's pointing device has changed */
void events_update_cursor(Viewer *v);  /* or its cursor */
void events_new_pointer(Viewer *v);    /* the host has a pointer that it had not */

/* seat.c: watches Wayland's seats for that, where there are such. */
Seats *seats_new(Viewer *v);
void seats_free(Seats *seats);
