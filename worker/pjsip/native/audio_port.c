/* pjaudioport: audio between pjmedia's conference bridge and Python, in bulk, without a Python call for each frame.
 *
 * It decides nothing: which call is connected, when an answer ends or is cut off is the owner's business. The Python
 * side is documented in pjaudioport.pyi.
 *
 *     pjmedia's clock thread, every 20 ms                        Python threads, whenever they like
 *     -----------------------------------                        ----------------------------------
 *
 *     caller -> bridge -> put_frame                              read() -> bytes -> model
 *                           | resample or encode                   ^
 *                           v                                      |
 *                         [===== uplink ring: encoded bytes, about 2 s =====]
 *                           |                                      ^
 *                           +- ready bit, one eventfd for all -----+ take_ready()
 *
 *     caller <- bridge <- get_frame                              write() <- bytes <- model
 *                           ^                                      | decode or resample
 *                           |                                      v
 *                         [===== downlink ring: samples at the bridge rate, about 16 s =====]
 *                           ^                                      |
 *                           +------- read index moved past all ----+ flush()
 *
 * Buffer policy
 *     uplink    2048 ms. Full: the newest frame is dropped and counted (uplink_dropped). The owner is a model session
 *               that has stalled; what it gets first afterwards is the oldest audio, without a hole inside.
 *     downlink  16384 ms at 8 and at 16 kHz. Full: write() accepts less and counts the rest (downlink_rejected).
 *               Speech comes much faster than it is played, an ordinary answer fits as a whole.
 *     Memory    at 8 kHz 256 kB of downlink and 16 kB (G.711), 32 kB (8 kHz) or 96 kB (24 kHz) of uplink; at 16 kHz
 *               512 kB and 64 or 96 kB. Pages count only once audio has gone through them.
 *
 * Who may touch what
 *     The clock thread never allocates, locks, calls Python or waits. What the rings share with it are 64-bit indices
 *     that only grow; a position in a ring is the index modulo its size. The Python threads of one port are serialised
 *     by `owner`, a mutex that the clock thread never takes and that is held for copying only, never while waiting for
 *     the GIL or for pjsua.
 *
 *     Uplink: one producer (put_frame), one consumer (read, under `owner`). put_frame fills bytes, then stores
 *     up_written with release; read loads it with acquire and therefore sees the bytes. Back the same way: read copies,
 *     then stores up_read with release; put_frame loads it with acquire before it uses that room again.
 *
 *     Downlink: one producer (write, under `owner`); the same pairing through down_written. Two may consume: get_frame
 *     plays, flush() throws away. Both move down_read by compare-and-swap, so that every sample is counted once, as
 *     played or as flushed. get_frame copies first and swaps after; if a flush came between, its swap fails and it
 *     plays nothing of what it copied. write() may by then have put new samples where get_frame still reads. That is
 *     why the ring's samples are themselves atomic (relaxed: plain 16-bit moves): the values read may be of either
 *     answer, they are never used.
 *
 *     finish_at and answer_from are positions in the downlink. append() stores answer_from before it moves
 *     down_written, flush() stores finish_at before it moves down_read; get_frame loads them after it has seen the
 *     move.
 *
 * No wake-up is lost
 *     put_frame publishes audio and sets the port's ready bit. The last put_frame of a tick then wakes the owner if any
 *     of that tick's ports became ready: it exchanges `signalled` with true and writes the eventfd if it was false.
 *     take_ready() empties the eventfd, exchanges `signalled` with false, then takes the bits.
 *     Exchanges of one variable have one order. If the clock's comes after take_ready's, it finds false and writes: the
 *     owner wakes again. If it comes before, take_ready's exchange reads what the clock's (or a later one) wrote and
 *     thereby sees the bits.
 *     Every tick has a last put_frame: the bridge calls it on all its ports in the order of their slots, also on those
 *     that nobody is connected to or that are closed but not yet removed. Which slot is the last is known to the clock
 *     thread alone: ports enter `ticked_slots` in their first put_frame and leave it in on_destroy, which the clock
 *     thread calls before the frames of a tick (or another thread when there is no clock, or for a port that never
 *     ticked). Without this, fifty resampling ports would wake a waiting owner nineteen times a tick (measured).
 *
 * Late ticks
 *     The same last put_frame notes when the tick ended, for all ports together, and compares with the one before. So
 *     ticks are counted only while there are ports; a port that joins as the new last ends its first tick once more.
 *     Each number is atomic on its own: take_ticks() sets it back to 0, and what changes meanwhile is in the next
 *     answer.
 *
 * Lifetime
 *     The struct has two owners, the Python object and the bridge. The bridge's share is the group lock's only
 *     reference: it goes when the bridge has really let go of the port, at the tick after close() or in libDestroy().
 *     Whoever is last frees. The rings, which are nearly all of it, go as soon as the port is closed and out of the
 *     bridge: a Python object may wait for the collector long after its call. After on_destroy nothing of pjsua is touched any more, so that Python may close late or
 *     never.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>
#include <pjsua-lib/pjsua.h>
#include <pjsua-lib/pjsua_internal.h> /* pjsua_var.mconf: the bridge itself */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "taps.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "pcm16 is little-endian on the wire and copied as it is"
#endif

enum {
    MAX_PORTS = 2048,                /* ids; more than the bridge has slots */
    FRAMES_PER_SECOND = 50,          /* the bridge runs in frames of 20 ms */
    MAX_FRAME = 16000 / 50,          /* samples of one frame at the highest bridge rate */
    MAX_UP_CHUNK = 24000 / 50 * 2,   /* bytes of one frame in the widest encoding */
    UP_RING_MS = 2048,
    DOWN_RING_MS = 16384,
    BLOCK = 480,                     /* samples converted at a time, on the stack */
    UNLOCKED_WRITE_BYTES = 8192,     /* from here on write() lets other Python threads run: about 20 us */
    NO_SLOT = PJSUA_INVALID_ID,
    LATE_TICK_NS = 30 * 1000 * 1000, /* after the tick before; 10 ms more than it should be */
};

typedef enum { PCM16, G711_ULAW, G711_ALAW } audio_encoding;


/* ---- G.711 ---- */

/* ITU-T G.711, quantised as in the reference code of ITU-T G.191: magnitudes are one's complements, so that -1 has
 * magnitude 0. u-law has 14 significant bits, A-law 13; both are left-aligned in 16.
 */
static uint8_t ulaw_of[1 << 14], alaw_of[1 << 13];
static int16_t of_ulaw[256], of_alaw[256];

static uint8_t ulaw_code(int sample14)
{
    int magnitude = (sample14 < 0 ? ~sample14 : sample14) + 33; /* biased: segments then begin at powers of two */
    if (magnitude > 0x1FFF)
        magnitude = 0x1FFF;
    int segment = 0;
    while (magnitude >> (segment + 6))
        ++segment;
    int code = segment << 4 | (magnitude >> (segment + 1) & 0x0F);
    return (uint8_t)~(sample14 < 0 ? code | 0x80 : code);
}

static int16_t ulaw_value(uint8_t code)
{
    int bits = ~code & 0xFF, segment = bits >> 4 & 7;
    int magnitude = (((bits & 0x0F) << 1 | 0x21) << segment) - 33;
    return (int16_t)((bits & 0x80 ? -magnitude : magnitude) * 4);
}

static uint8_t alaw_code(int sample13)
{
    int magnitude = (sample13 < 0 ? ~sample13 : sample13) >> 1;
    int segment = 0;
    while (magnitude >> (segment + 5))
        ++segment;
    int code = magnitude >= 32 ? (segment + 1) << 4 | (magnitude >> segment & 0x0F) : magnitude;
    return (uint8_t)((sample13 < 0 ? code : code | 0x80) ^ 0x55);
}

static int16_t alaw_value(uint8_t code)
{
    int bits = code ^ 0x55, segment = bits >> 4 & 7;
    int magnitude = (bits & 0x0F) << 1 | 1;
    if (segment)
        magnitude = (magnitude | 0x20) << (segment - 1);
    return (int16_t)((bits & 0x80 ? magnitude : -magnitude) * 8);
}

static void make_g711_tables(void)
{
    for (int i = 0; i < 1 << 14; ++i)
        ulaw_of[i] = ulaw_code(i < 1 << 13 ? i : i - (1 << 14));
    for (int i = 0; i < 1 << 13; ++i)
        alaw_of[i] = alaw_code(i < 1 << 12 ? i : i - (1 << 13));
    for (int i = 0; i < 256; ++i) {
        of_ulaw[i] = ulaw_value((uint8_t)i);
        of_alaw[i] = alaw_value((uint8_t)i);
    }
}


/* ---- Resampling ---- */

typedef float float4 __attribute__((vector_size(16)));

/* The filter of taps.h, cut into phases for `up` output positions between two inputs; each row is reversed so that it
 * runs along the input. All rates used share the filter: its rate is the least common multiple of both.
 */
static _Alignas(16) float rows_1[1][TAPS], rows_2[2][TAPS / 2], rows_3[3][TAPS / 3];

typedef struct {
    unsigned up, down;        /* output rate : input rate */
    const float *rows;        /* `up` rows of `taps` */
    unsigned taps;
    unsigned next;            /* where the next output lies: 1/up input samples after the next input */
    bool used;                /* something has gone in since the last reset */
    float history[TAPS - 1];  /* the last taps - 1 inputs, oldest first */
} resampler;

static void make_rows(float *rows, unsigned up)
{
    unsigned taps = TAPS / up;
    for (unsigned phase = 0; phase < up; ++phase)
        for (unsigned k = 0; k < taps; ++k)
            rows[phase * taps + k] = (float)up * (float)TAPS_24[phase + up * (taps - 1 - k)] / (1 << 24);
}

static void resampler_reset(resampler *r)
{
    r->next = 0;
    r->used = false;
    memset(r->history, 0, sizeof r->history);
}

static void resampler_init(resampler *r, int from, int to)
{
    r->up = to == 24000 ? 3 : to == 16000 ? 2 : 1;    /* 8 -> 24, 16 -> 24, 24 -> 16, 24 -> 8 */
    r->down = from == 24000 ? 3 : from == 16000 ? 2 : 1;
    r->rows = r->up == 3 ? rows_3[0] : r->up == 2 ? rows_2[0] : rows_1[0];
    r->taps = TAPS / r->up;
    resampler_reset(r);
}

/* The most inputs that yield no more than `room` outputs. */
static uint64_t resampler_inputs(const resampler *r, uint64_t room)
{
    return (room * r->down + r->next) / r->up;
}

static float dot(const float *x, const float *row, unsigned taps)
{
    float4 a = {0}, b = {0};
    for (unsigned k = 0; k < taps; k += 8) {
        float4 x0, x1;
        memcpy(&x0, x + k, sizeof x0); /* unaligned */
        memcpy(&x1, x + k + 4, sizeof x1);
        a += x0 * *(const float4 *)(row + k);
        b += x1 * *(const float4 *)(row + k + 4);
    }
    a += b;
    return (a[0] + a[1]) + (a[2] + a[3]);
}

static int16_t to_sample(float value)
{
    value = value > 32767.0f ? 32767.0f : value < -32768.0f ? -32768.0f : value;
    return (int16_t)lrintf(value);
}

/* Takes all `count` (at most BLOCK) inputs and returns the number of outputs. How the input is cut into calls makes no
 * difference to the output.
 */
static unsigned resample(resampler *r, const int16_t *in, unsigned count, int16_t *out)
{
    float x[TAPS - 1 + BLOCK];
    unsigned kept = r->taps - 1, made = 0, at = r->next;
    memcpy(x, r->history, kept * sizeof *x);
    for (unsigned i = 0; i < count; ++i)
        x[kept + i] = in[i];
    for (; at < count * r->up; at += r->down)
        out[made++] = to_sample(dot(x + at / r->up, r->rows + at % r->up * r->taps, r->taps));
    memcpy(r->history, x + count, kept * sizeof *x);
    r->next = at - count * r->up;
    r->used = true;
    return made;
}


/* ---- The port ---- */

typedef struct {
    pjmedia_port base; /* first: pjmedia's callbacks get a pointer to it */
    pj_pool_t *pool;
    char name[24];
    atomic_int owners;
    int id;
    pjsua_conf_port_id slot;
    atomic_bool in_bridge; /* until on_destroy */
    atomic_bool capturing; /* from the first connect() on */
    atomic_bool closed;
    bool ticked; /* the clock thread's own: has had its first put_frame */
    int peer; /* slot connected to, or NO_SLOT; used with the GIL held */

    audio_encoding encoding;
    unsigned bridge_rate, rate;
    unsigned frame;        /* samples of one bridge frame */
    unsigned sample_bytes; /* of one encoded sample */
    bool resamples;
    pthread_mutex_t owner; /* serialises Python's threads */

    uint8_t *up;
    uint64_t up_size, wake_bytes;
    resampler up_resampler;
    _Alignas(64) atomic_ullong up_written; /* bytes, by put_frame */
    atomic_ullong up_dropped;              /* samples at the bridge rate, by put_frame */
    atomic_llong captured_ns;              /* by put_frame */
    _Alignas(64) atomic_ullong up_read;    /* bytes, by read */

    _Atomic int16_t *down;
    uint64_t down_size;
    resampler down_resampler;                /* under `owner` */
    uint64_t down_flushed, down_rejected;    /* bridge samples, encoded samples; under `owner` */
    _Alignas(64) atomic_ullong down_written; /* samples, under `owner` */
    atomic_ullong finish_at;                 /* end of the last answer; less than down_written while one is open */
    atomic_ullong answer_from;               /* begin of the last answer */
    _Alignas(64) atomic_ullong down_read;    /* samples, by get_frame and flush */
    atomic_ullong underruns;                 /* frames, by get_frame */
    atomic_llong first_played_ns, answer_ns; /* by get_frame */
    bool in_answer;                          /* get_frame's own: something of the answer at played_to is over */
    uint64_t played_to;                      /* get_frame's own */
} audio_port;

static const int16_t silence[MAX_FRAME];

static int64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}


/* ---- Ids and wake-ups, shared by all ports ---- */

enum { WORD_BITS = 64, WORDS = MAX_PORTS / WORD_BITS };

static atomic_bool id_used[MAX_PORTS];
static _Atomic uint64_t ready[WORDS];
static atomic_bool signalled;
static uint64_t ticked_slots[WORDS]; /* the clock thread's own, as are the next three */
static int last_slot = -1;
static bool newly_ready;
static int64_t tick_ended_ns; /* CLOCK_MONOTONIC; 0 before the first tick of a time with ports */
static atomic_llong ticks, late_ticks, longest_tick_ns;
static int wake_event = -1; /* created once, with the GIL held, before the first port */

static int take_id(void)
{
    for (int id = 0; id < MAX_PORTS; ++id) {
        bool used = false;
        if (atomic_compare_exchange_strong(&id_used[id], &used, true))
            return id;
    }
    return -1;
}

static void clear_ready(int id)
{
    atomic_fetch_and(&ready[id / WORD_BITS], ~((uint64_t)1 << id % WORD_BITS));
}

static void set_ready(int id)
{
    atomic_fetch_or(&ready[id / WORD_BITS], (uint64_t)1 << id % WORD_BITS);
    newly_ready = true;
}

static void wake_owner(void)
{
    newly_ready = false;
    if (!atomic_exchange(&signalled, true)) {
        uint64_t one = 1;
        ssize_t done = write(wake_event, &one, sizeof one);
        (void)done; /* fails only when the counter is at its limit, and then the owner is being woken already */
    }
}

/* A tick that catches up with late ones comes early, and is none of them. */
static void count_tick(void)
{
    int64_t now = now_ns(CLOCK_MONOTONIC), took = now - tick_ended_ns;
    bool first = !tick_ended_ns;
    tick_ended_ns = now;
    if (first)
        return;
    atomic_fetch_add_explicit(&ticks, 1, memory_order_relaxed);
    if (took > LATE_TICK_NS)
        atomic_fetch_add_explicit(&late_ticks, 1, memory_order_relaxed);
    if (took > atomic_load_explicit(&longest_tick_ns, memory_order_relaxed)) /* nobody else makes it longer */
        atomic_store_explicit(&longest_tick_ns, took, memory_order_relaxed);
}

static void enter_tick_order(audio_port *p)
{
    p->ticked = true;
    if (p->slot < MAX_PORTS) { /* one beyond that wakes for itself */
        ticked_slots[p->slot / WORD_BITS] |= (uint64_t)1 << p->slot % WORD_BITS;
        last_slot = p->slot > last_slot ? p->slot : last_slot;
    }
}

static void leave_tick_order(const audio_port *p)
{
    if (!p->ticked || p->slot >= MAX_PORTS)
        return;
    ticked_slots[p->slot / WORD_BITS] &= ~((uint64_t)1 << p->slot % WORD_BITS);
    for (last_slot = MAX_PORTS - 1; last_slot >= 0; --last_slot)
        if (ticked_slots[last_slot / WORD_BITS] >> last_slot % WORD_BITS & 1)
            break;
    if (last_slot < 0)
        tick_ended_ns = 0;
}

/* Only when the port is closed and out of the bridge: nobody but Python, under `owner`, looks at them any more. */
static void free_rings(audio_port *p)
{
    pthread_mutex_lock(&p->owner);
    free(p->up);
    free((void *)p->down);
    p->up = NULL;
    p->down = NULL;
    pthread_mutex_unlock(&p->owner);
}

static void disown(audio_port *p)
{
    if (atomic_fetch_sub(&p->owners, 1) > 1)
        return;
    clear_ready(p->id);
    atomic_store(&id_used[p->id], false);
    free_rings(p);
    pthread_mutex_destroy(&p->owner);
    free(p);
}


/* ---- pjmedia's side ---- */

static unsigned encode(audio_port *p, const int16_t *pcm, uint8_t *out)
{
    if (p->resamples) {
        int16_t resampled[MAX_UP_CHUNK / 2];
        unsigned made = resample(&p->up_resampler, pcm, p->frame, resampled);
        memcpy(out, resampled, made * 2);
        return made * 2;
    }
    if (p->encoding == G711_ULAW)
        for (unsigned i = 0; i < p->frame; ++i)
            out[i] = ulaw_of[(uint16_t)pcm[i] >> 2];
    else if (p->encoding == G711_ALAW)
        for (unsigned i = 0; i < p->frame; ++i)
            out[i] = alaw_of[(uint16_t)pcm[i] >> 3];
    else
        memcpy(out, pcm, p->frame * 2);
    return p->frame * p->sample_bytes;
}

/* The caller's audio of one tick. Frames without audio (nobody connected, no RTP) count as silence: the model's clock is
 * the audio it gets.
 */
static void capture(audio_port *p, const pjmedia_frame *frame)
{
    bool audio = frame->type == PJMEDIA_FRAME_TYPE_AUDIO && frame->buf && frame->size >= p->frame * 2;
    uint8_t chunk[MAX_UP_CHUNK];
    unsigned bytes = encode(p, audio ? frame->buf : silence, chunk);
    uint64_t written = atomic_load_explicit(&p->up_written, memory_order_relaxed);
    uint64_t read = atomic_load_explicit(&p->up_read, memory_order_acquire);
    if (p->up_size - (written - read) < bytes) {
        atomic_fetch_add_explicit(&p->up_dropped, p->frame, memory_order_relaxed);
    } else {
        uint64_t at = written % p->up_size, first = p->up_size - at < bytes ? p->up_size - at : bytes;
        memcpy(p->up + at, chunk, first);
        memcpy(p->up, chunk + first, bytes - first);
        written += bytes;
        atomic_store_explicit(&p->up_written, written, memory_order_release);
        if (written == bytes)
            atomic_store_explicit(&p->captured_ns, now_ns(CLOCK_REALTIME), memory_order_relaxed);
    }
    if (written - read >= p->wake_bytes)
        set_ready(p->id);
}

/* pjmedia_port.put_frame: called on every port in every tick. */
static pj_status_t put_frame(pjmedia_port *base, pjmedia_frame *frame)
{
    audio_port *p = (audio_port *)base;
    if (!p->ticked)
        enter_tick_order(p);
    if (atomic_load_explicit(&p->capturing, memory_order_relaxed)
        && !atomic_load_explicit(&p->closed, memory_order_relaxed))
        capture(p, frame);
    if (newly_ready && p->slot >= last_slot)
        wake_owner();
    if (p->slot == last_slot)
        count_tick();
    return PJ_SUCCESS;
}

/* Notes when an answer begins: get_frame has just taken the samples from `from` to `to`. An answer begins after the end
 * of one, after a flush (which moves `from`), or at the newest mark between two that are queued.
 */
static void note_playing(audio_port *p, uint64_t from, uint64_t to)
{
    uint64_t mark = atomic_load_explicit(&p->answer_from, memory_order_relaxed);
    if (!p->in_answer || from != p->played_to || (from <= mark && mark < to)) {
        int64_t now = now_ns(CLOCK_REALTIME);
        atomic_store_explicit(&p->answer_ns, now, memory_order_relaxed);
        if (!atomic_load_explicit(&p->first_played_ns, memory_order_relaxed))
            atomic_store_explicit(&p->first_played_ns, now, memory_order_relaxed);
    }
    p->played_to = to;
    p->in_answer = atomic_load_explicit(&p->finish_at, memory_order_relaxed) != to;
}

/* pjmedia_port.get_frame: audio for the caller, or no audio, which the bridge turns into silence. */
static pj_status_t get_frame(pjmedia_port *base, pjmedia_frame *frame)
{
    audio_port *p = (audio_port *)base;
    frame->type = PJMEDIA_FRAME_TYPE_NONE;
    if (atomic_load_explicit(&p->closed, memory_order_relaxed))
        return PJ_SUCCESS;
    unsigned long long read = atomic_load_explicit(&p->down_read, memory_order_acquire);
    uint64_t written = atomic_load_explicit(&p->down_written, memory_order_acquire);
    uint64_t count = written - read;
    if (count < p->frame) {
        bool open = atomic_load_explicit(&p->finish_at, memory_order_relaxed) < written;
        if (open)
            atomic_fetch_add_explicit(&p->underruns, 1, memory_order_relaxed);
        if (!count) {
            p->in_answer = open;
            return PJ_SUCCESS;
        }
    } else {
        count = p->frame;
    }
    int16_t *out = frame->buf;
    uint64_t at = read % p->down_size;
    for (uint64_t i = 0; i < count; ++i) {
        out[i] = atomic_load_explicit(&p->down[at], memory_order_relaxed);
        at = at + 1 == p->down_size ? 0 : at + 1;
    }
    if (!atomic_compare_exchange_strong_explicit(&p->down_read, &read, read + count, memory_order_acq_rel,
                                                 memory_order_relaxed))
        return PJ_SUCCESS; /* flushed meanwhile */
    note_playing(p, read, read + count);
    memset(out + count, 0, (p->frame - count) * 2);
    frame->type = PJMEDIA_FRAME_TYPE_AUDIO;
    frame->size = p->frame * 2;
    return PJ_SUCCESS;
}

/* The bridge has let go: from its clock thread, or from the thread in libDestroy(). */
static pj_status_t on_destroy(pjmedia_port *base)
{
    audio_port *p = (audio_port *)base;
    pj_pool_t *pool = p->pool;
    leave_tick_order(p);
    atomic_store(&p->in_bridge, false);
    if (atomic_load(&p->closed))
        free_rings(p);
    disown(p);
    pj_pool_release(pool);
    return PJ_SUCCESS;
}

/* pjsua2 hears of every operation of the bridge and passes it on to Python, from the clock thread, with the GIL: a busy
 * interpreter would hold up every call's audio. A function, because the clock thread tests for NULL without a lock.
 */
static void ignore_operation(const pjmedia_conf_op_info *info)
{
    (void)info;
}

static bool endpoint_runs(void)
{
    pjsua_state state = pjsua_get_state();
    return state == PJSUA_STATE_INIT || state == PJSUA_STATE_STARTING || state == PJSUA_STATE_RUNNING;
}

/* Threads that pjlib did not create must be made known to it once. The description lives as long as the thread. */
static void register_thread(void)
{
    static _Thread_local pj_thread_desc description;
    static _Thread_local pj_thread_t *thread;
    if (!pj_thread_is_registered())
        pj_thread_register("python", description, &thread);
}

/* Without the GIL: pjsua's lock may be held by a thread that waits for the GIL in a callback. */
static pj_status_t enter_bridge(audio_port *p, unsigned *bridge_rate)
{
    pjsua_conf_port_info master;
    pj_str_t name = pj_str(p->name);
    register_thread();
    pj_status_t status = pjsua_conf_get_port_info(0, &master);
    if (status != PJ_SUCCESS)
        return status;
    *bridge_rate = master.clock_rate;
    if (master.clock_rate != p->bridge_rate)
        return PJ_SUCCESS;
    pjmedia_conf_set_op_cb(pjsua_var.mconf, &ignore_operation);
    p->pool = pjsua_pool_create("audioport", 512, 512);
    if (!p->pool)
        return PJ_ENOMEM;
    pjmedia_port_info_init(&p->base.info, &name, PJMEDIA_SIG_CLASS_PORT_AUD('V', 'P'), p->bridge_rate, 1, 16, p->frame);
    p->base.put_frame = &put_frame;
    p->base.get_frame = &get_frame;
    p->base.on_destroy = &on_destroy;
    status = pjmedia_port_init_grp_lock(&p->base, p->pool, NULL);
    if (status != PJ_SUCCESS) {
        pj_pool_release(p->pool);
        return status;
    }
    atomic_fetch_add(&p->owners, 1);
    atomic_store(&p->in_bridge, true);
    status = pjsua_conf_add_port(p->pool, &p->base, &p->slot);
    pjmedia_port_dec_ref(&p->base); /* the bridge's reference stays, or on_destroy is called here */
    return status;
}

/* What fails here cannot be helped: the port is mute from now on and leaves the bridge with the endpoint. */
static void leave_bridge(audio_port *p)
{
    if (atomic_exchange(&p->closed, true))
        return;
    clear_ready(p->id);
    if (!atomic_load(&p->in_bridge)) {
        free_rings(p);
    } else if (endpoint_runs()) {
        register_thread();
        pjsua_conf_remove_port(p->slot);
    }
}

static pj_status_t connect_both(audio_port *p, int old, int peer)
{
    register_thread();
    if (old != NO_SLOT && old != peer) { /* fails if the old stream is gone, and its connections with it */
        pjsua_conf_disconnect(old, p->slot);
        pjsua_conf_disconnect(p->slot, old);
    }
    pj_status_t status = pjsua_conf_connect(peer, p->slot);
    if (status == PJ_SUCCESS) {
        status = pjsua_conf_connect(p->slot, peer);
        if (status != PJ_SUCCESS)
            pjsua_conf_disconnect(peer, p->slot);
    }
    return status;
}


/* ---- Python's side of the rings; all under `owner` ---- */

static void append(audio_port *p, const int16_t *pcm, unsigned count)
{
    uint64_t written = atomic_load_explicit(&p->down_written, memory_order_relaxed);
    if (count && written == atomic_load_explicit(&p->finish_at, memory_order_relaxed))
        atomic_store_explicit(&p->answer_from, written, memory_order_relaxed);
    uint64_t at = written % p->down_size;
    for (unsigned i = 0; i < count; ++i) {
        atomic_store_explicit(&p->down[at], pcm[i], memory_order_relaxed);
        at = at + 1 == p->down_size ? 0 : at + 1;
    }
    atomic_store_explicit(&p->down_written, written + count, memory_order_release);
}

static uint64_t down_queued(audio_port *p)
{
    return atomic_load_explicit(&p->down_written, memory_order_relaxed)
           - atomic_load_explicit(&p->down_read, memory_order_acquire);
}

/* Encoded samples of the next block that the ring has room for. */
static unsigned acceptable(audio_port *p, uint64_t count)
{
    uint64_t room = p->down_size - down_queued(p);
    if (p->resamples)
        room = resampler_inputs(&p->down_resampler, room);
    count = count < room ? count : room;
    return count < BLOCK ? (unsigned)count : BLOCK;
}

static void decode(const audio_port *p, const uint8_t *encoded, unsigned count, int16_t *pcm)
{
    if (p->encoding == PCM16) {
        memcpy(pcm, encoded, count * 2);
        return;
    }
    const int16_t *values = p->encoding == G711_ULAW ? of_ulaw : of_alaw;
    for (unsigned i = 0; i < count; ++i)
        pcm[i] = values[encoded[i]];
}

/* Number of the encoded samples taken. */
static uint64_t accept_audio(audio_port *p, const uint8_t *encoded, uint64_t count)
{
    int16_t pcm[BLOCK], resampled[BLOCK];
    uint64_t taken = 0;
    unsigned block;
    if (!p->down) /* closed by another thread a moment ago */
        return 0;
    while ((block = acceptable(p, count - taken)) > 0) {
        decode(p, encoded + taken * p->sample_bytes, block, pcm);
        if (p->resamples)
            append(p, resampled, resample(&p->down_resampler, pcm, block, resampled));
        else
            append(p, pcm, block);
        taken += block;
    }
    p->down_rejected += count - taken;
    return taken;
}

/* Plays out what is still inside the filter. False if the ring has no room for it. */
static bool finish_answer(audio_port *p)
{
    if (p->down && p->resamples && p->down_resampler.used) {
        resampler *r = &p->down_resampler;
        unsigned zeros = TAPS / 2 / r->up; /* the filter's delay in input samples */
        int16_t tail[BLOCK];
        if (acceptable(p, zeros) < zeros)
            return false;
        append(p, tail, resample(r, silence, zeros, tail));
        resampler_reset(r);
    }
    uint64_t end = atomic_load_explicit(&p->down_written, memory_order_relaxed);
    atomic_store_explicit(&p->finish_at, end, memory_order_release);
    return true;
}

/* Samples dropped. The answer is finished before its samples go: an empty ring is then no underrun. */
static uint64_t flush_downlink(audio_port *p)
{
    uint64_t end = atomic_load_explicit(&p->down_written, memory_order_relaxed);
    atomic_store_explicit(&p->finish_at, end, memory_order_release);
    unsigned long long read = atomic_load_explicit(&p->down_read, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&p->down_read, &read, end, memory_order_acq_rel,
                                                  memory_order_relaxed))
        ; /* get_frame was faster by one frame */
    p->down_flushed += end - read;
    resampler_reset(&p->down_resampler);
    return end - read;
}

static uint64_t take_uplink(audio_port *p, uint8_t *out, uint64_t most)
{
    uint64_t read = atomic_load_explicit(&p->up_read, memory_order_relaxed);
    uint64_t bytes = atomic_load_explicit(&p->up_written, memory_order_acquire) - read;
    bytes = bytes < most ? bytes : most;
    if (!p->up) /* closed by another thread a moment ago */
        return 0;
    uint64_t at = read % p->up_size, first = p->up_size - at < bytes ? p->up_size - at : bytes;
    memcpy(out, p->up + at, first);
    memcpy(out + first, p->up, bytes - first);
    atomic_store_explicit(&p->up_read, read + bytes, memory_order_release);
    return bytes;
}


/* ---- The Python type ---- */

typedef struct {
    PyObject_HEAD
    audio_port *port;
} AudioPort;

static PyTypeObject *counters_type;

static PyObject *pj_failure(const char *what, pj_status_t status)
{
    char reason[PJ_ERR_MSG_SIZE];
    pj_strerror(status, reason, sizeof reason);
    return PyErr_Format(PyExc_RuntimeError, "%s: %s", what, reason);
}

static PyObject *no_endpoint(void)
{
    PyErr_SetString(PyExc_RuntimeError, "no pjsua2 endpoint is running: libCreate, libInit and libStart come first");
    return NULL;
}

static audio_port *open_port(PyObject *self)
{
    audio_port *p = ((AudioPort *)self)->port;
    if (!atomic_load(&p->closed))
        return p;
    PyErr_SetString(PyExc_ValueError, "the audio port is closed");
    return NULL;
}

static int make_wake_event(void)
{
    if (wake_event < 0 && (wake_event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0)
        PyErr_SetFromErrno(PyExc_OSError);
    return wake_event;
}

/* The encoding of that name, or -1 with ValueError set if it and the rates do not go together. */
static int check_arguments(int bridge_rate, const char *name, int rate, int wake_ms)
{
    static const char *const names[] = {"pcm16", "g711_ulaw", "g711_alaw"};
    int encoding = 2;
    while (encoding >= 0 && strcmp(name, names[encoding]))
        --encoding;
    if (encoding < 0)
        PyErr_Format(PyExc_ValueError, "encoding is '%s', not 'pcm16', 'g711_ulaw' or 'g711_alaw'", name);
    else if (bridge_rate != 8000 && bridge_rate != 16000)
        PyErr_Format(PyExc_ValueError, "bridge_rate is %d, not 8000 or 16000", bridge_rate);
    else if (encoding != PCM16 && (bridge_rate != 8000 || rate != 8000))
        PyErr_Format(PyExc_ValueError, "%s needs a rate and a bridge_rate of 8000", name);
    else if (rate != bridge_rate && rate != 24000)
        PyErr_Format(PyExc_ValueError, "rate is %d, not %d (the bridge's) or 24000", rate, bridge_rate);
    else if (wake_ms < 20 || wake_ms > 1000)
        PyErr_Format(PyExc_ValueError, "wake_ms is %d, not 20 to 1000", wake_ms);
    else
        return encoding;
    return -1;
}

static audio_port *new_port(unsigned bridge_rate, audio_encoding encoding, unsigned rate, unsigned wake_ms)
{
    audio_port *p = aligned_alloc(64, sizeof *p);
    if (!p)
        return NULL;
    memset(p, 0, sizeof *p);
    p->bridge_rate = bridge_rate;
    p->rate = rate;
    p->encoding = encoding;
    p->frame = bridge_rate / FRAMES_PER_SECOND;
    p->sample_bytes = encoding == PCM16 ? 2 : 1;
    p->resamples = rate != bridge_rate;
    p->up_size = (uint64_t)rate * UP_RING_MS / 1000 * p->sample_bytes;
    p->wake_bytes = (uint64_t)rate * wake_ms / 1000 * p->sample_bytes;
    p->down_size = (uint64_t)bridge_rate * DOWN_RING_MS / 1000;
    p->up = calloc(p->up_size, 1);
    p->down = calloc(p->down_size, sizeof *p->down);
    p->id = take_id();
    if (!p->up || !p->down || p->id < 0) {
        if (p->id >= 0)
            atomic_store(&id_used[p->id], false);
        free(p->up);
        free((void *)p->down);
        free(p);
        return NULL;
    }
    resampler_init(&p->up_resampler, (int)bridge_rate, (int)rate);
    resampler_init(&p->down_resampler, (int)rate, (int)bridge_rate);
    pthread_mutex_init(&p->owner, NULL);
    snprintf(p->name, sizeof p->name, "audioport%d", p->id);
    p->slot = p->peer = NO_SLOT;
    atomic_init(&p->owners, 1);
    return p;
}

static PyObject *AudioPort_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"bridge_rate", "encoding", "rate", "wake_ms", NULL};
    int bridge_rate = INT_MIN, rate = INT_MIN, wake_ms = 20;
    const char *name = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$isii:AudioPort", names, &bridge_rate, &name, &rate, &wake_ms))
        return NULL;
    if (bridge_rate == INT_MIN || !name || rate == INT_MIN) { /* CPython knows no required keyword-only arguments */
        PyErr_SetString(PyExc_TypeError, "AudioPort() needs bridge_rate, encoding and rate");
        return NULL;
    }
    int encoding = check_arguments(bridge_rate, name, rate, wake_ms);
    if (encoding < 0 || make_wake_event() < 0)
        return NULL;
    if (!endpoint_runs())
        return no_endpoint();
    AudioPort *self = (AudioPort *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->port = new_port((unsigned)bridge_rate, (audio_encoding)encoding, (unsigned)rate, (unsigned)wake_ms);
    if (!self->port) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    unsigned actual_rate = 0;
    pj_status_t status;
    Py_BEGIN_ALLOW_THREADS
    status = enter_bridge(self->port, &actual_rate);
    Py_END_ALLOW_THREADS
    if (status != PJ_SUCCESS)
        pj_failure("cannot add an audio port to the bridge", status);
    else if (actual_rate != (unsigned)bridge_rate)
        PyErr_Format(PyExc_ValueError, "bridge_rate is %d, but the bridge runs at %u Hz", bridge_rate, actual_rate);
    if (PyErr_Occurred())
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void close_quietly(audio_port *p)
{
    Py_BEGIN_ALLOW_THREADS
    leave_bridge(p);
    Py_END_ALLOW_THREADS
    p->peer = NO_SLOT;
}

static void AudioPort_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    audio_port *p = ((AudioPort *)self)->port;
    if (p) {
        close_quietly(p);
        disown(p);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *AudioPort_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    close_quietly(((AudioPort *)self)->port);
    Py_RETURN_NONE;
}

static PyObject *AudioPort_enter(PyObject *self, PyObject *unused)
{
    (void)unused;
    return open_port(self) ? Py_NewRef(self) : NULL;
}

static PyObject *AudioPort_exit(PyObject *self, PyObject *args)
{
    return AudioPort_close(self, args);
}

static PyObject *AudioPort_connect(PyObject *self, PyObject *argument)
{
    audio_port *p = open_port(self);
    if (!p)
        return NULL;
    long peer = PyLong_AsLong(argument);
    if (peer == -1 && PyErr_Occurred())
        return NULL;
    if (peer < 0 || peer > INT_MAX || peer == p->slot)
        return PyErr_Format(PyExc_ValueError, "cannot connect an audio port to slot %ld", peer);
    if (!endpoint_runs() || !atomic_load(&p->in_bridge))
        return no_endpoint();
    int old = p->peer;
    pj_status_t status;
    p->peer = (int)peer;
    Py_BEGIN_ALLOW_THREADS
    status = connect_both(p, old, (int)peer);
    Py_END_ALLOW_THREADS
    if (status != PJ_SUCCESS) {
        char what[64];
        snprintf(what, sizeof what, "cannot connect the audio port to slot %ld", peer);
        p->peer = NO_SLOT;
        return pj_failure(what, status);
    }
    atomic_store(&p->capturing, true);
    Py_RETURN_NONE;
}

static PyObject *AudioPort_disconnect(PyObject *self, PyObject *unused)
{
    (void)unused;
    audio_port *p = ((AudioPort *)self)->port;
    int peer = p->peer;
    p->peer = NO_SLOT;
    if (peer != NO_SLOT && endpoint_runs() && atomic_load(&p->in_bridge)) {
        Py_BEGIN_ALLOW_THREADS
        register_thread(); /* failures: the stream is gone, and its connections with it */
        pjsua_conf_disconnect(peer, p->slot);
        pjsua_conf_disconnect(p->slot, peer);
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_NONE;
}

static PyObject *AudioPort_read(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"max_bytes", NULL};
    audio_port *p = open_port(self);
    Py_ssize_t most = -1;
    if (!p || !PyArg_ParseTupleAndKeywords(args, kwargs, "|n:read", names, &most))
        return NULL;
    if (most < -1)
        return PyErr_Format(PyExc_ValueError, "max_bytes is %zd, not a number of bytes or -1 for all", most);
    uint64_t read = atomic_load_explicit(&p->up_read, memory_order_relaxed); /* first: it never overtakes the other */
    uint64_t waiting = atomic_load_explicit(&p->up_written, memory_order_relaxed) - read;
    if (most == -1 || (uint64_t)most > waiting)
        most = (Py_ssize_t)waiting;
    most -= most % p->sample_bytes;
    PyObject *audio = PyBytes_FromStringAndSize(NULL, most); /* before the lock: this may run finalizers */
    if (!audio)
        return NULL;
    pthread_mutex_lock(&p->owner);
    uint64_t taken = take_uplink(p, (uint8_t *)PyBytes_AS_STRING(audio), (uint64_t)most);
    pthread_mutex_unlock(&p->owner);
    if (taken != (uint64_t)most) /* another thread reads, too */
        _PyBytes_Resize(&audio, (Py_ssize_t)taken);
    return audio;
}

static PyObject *AudioPort_write(PyObject *self, PyObject *argument)
{
    audio_port *p = open_port(self);
    Py_buffer view;
    if (!p || PyObject_GetBuffer(argument, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    PyThreadState *thread = view.len >= UNLOCKED_WRITE_BYTES ? PyEval_SaveThread() : NULL;
    pthread_mutex_lock(&p->owner);
    uint64_t taken = accept_audio(p, view.buf, (uint64_t)view.len / p->sample_bytes);
    pthread_mutex_unlock(&p->owner);
    if (thread)
        PyEval_RestoreThread(thread);
    PyBuffer_Release(&view);
    return PyLong_FromUnsignedLongLong(taken * p->sample_bytes);
}

static PyObject *AudioPort_finish(PyObject *self, PyObject *unused)
{
    (void)unused;
    audio_port *p = open_port(self);
    if (!p)
        return NULL;
    pthread_mutex_lock(&p->owner);
    bool finished = finish_answer(p);
    pthread_mutex_unlock(&p->owner);
    return PyBool_FromLong(finished);
}

static PyObject *AudioPort_flush(PyObject *self, PyObject *unused)
{
    (void)unused;
    audio_port *p = open_port(self);
    if (!p)
        return NULL;
    pthread_mutex_lock(&p->owner);
    uint64_t dropped = flush_downlink(p);
    pthread_mutex_unlock(&p->owner);
    return PyLong_FromUnsignedLongLong(dropped);
}

/* Each index is loaded once and the rest is worked out from it: the sums hold in every snapshot. */
static PyObject *AudioPort_counters(PyObject *self, PyObject *unused)
{
    (void)unused;
    audio_port *p = ((AudioPort *)self)->port;
    uint64_t per_second = (uint64_t)p->rate * p->sample_bytes; /* encoded bytes, whole frames of which are captured */
    pthread_mutex_lock(&p->owner);
    uint64_t up_read = atomic_load(&p->up_read), up_written = atomic_load(&p->up_written);
    uint64_t dropped = atomic_load(&p->up_dropped);
    uint64_t down_read = atomic_load(&p->down_read), down_written = atomic_load(&p->down_written);
    uint64_t flushed = p->down_flushed, rejected = p->down_rejected;
    pthread_mutex_unlock(&p->owner);
    const uint64_t values[] = {
        up_written * p->bridge_rate / per_second + dropped,
        dropped,
        (up_written - up_read) * p->bridge_rate / per_second,
        down_written,
        down_read - flushed,
        flushed,
        down_written - down_read,
        rejected * p->bridge_rate / p->rate,
        atomic_load(&p->underruns),
        (uint64_t)atomic_load(&p->captured_ns),
        (uint64_t)atomic_load(&p->first_played_ns),
        (uint64_t)atomic_load(&p->answer_ns),
    };
    PyObject *counters = PyStructSequence_New(counters_type);
    for (Py_ssize_t i = 0; counters && i < (Py_ssize_t)(sizeof values / sizeof *values); ++i) {
        PyObject *value = PyLong_FromUnsignedLongLong(values[i]);
        if (!value)
            Py_CLEAR(counters);
        else
            PyStructSequence_SetItem(counters, i, value);
    }
    return counters;
}

static PyObject *AudioPort_id(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromLong(((AudioPort *)self)->port->id);
}

static PyObject *AudioPort_slot(PyObject *self, void *unused)
{
    (void)unused;
    audio_port *p = ((AudioPort *)self)->port;
    return PyLong_FromLong(atomic_load(&p->closed) || !atomic_load(&p->in_bridge) ? NO_SLOT : p->slot);
}


/* ---- The module; what each name does is said in pjaudioport.pyi ---- */

static PyObject *module_wake_fd(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    int fd = make_wake_event();
    return fd < 0 ? NULL : PyLong_FromLong(fd);
}

static PyObject *module_take_ready(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    uint64_t count;
    if (wake_event >= 0) {
        ssize_t done = read(wake_event, &count, sizeof count);
        (void)done; /* nothing there: it does not block */
    }
    atomic_exchange(&signalled, false);
    PyObject *ids = PyList_New(0);
    for (int word = 0; ids && word < WORDS; ++word) {
        uint64_t bits = atomic_exchange(&ready[word], 0);
        for (; ids && bits; bits &= bits - 1) {
            PyObject *id = PyLong_FromLong(word * WORD_BITS + __builtin_ctzll(bits));
            if (!id || PyList_Append(ids, id) < 0)
                Py_CLEAR(ids);
            Py_XDECREF(id);
        }
    }
    return ids;
}

static PyObject *module_take_ticks(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    long long all = atomic_exchange(&ticks, 0), late = atomic_exchange(&late_ticks, 0);
    return Py_BuildValue("LLL", all, late, (long long)atomic_exchange(&longest_tick_ns, 0));
}

/* "name(arguments)\n--\n\n" is where inspect.signature() looks. */
static PyMethodDef port_methods[] = {
    {"connect", AudioPort_connect, METH_O,
     "connect($self, call_slot, /)\n--\n\nCarry audio to and from a slot of the bridge."},
    {"disconnect", AudioPort_disconnect, METH_NOARGS, "disconnect($self, /)\n--\n\nCarry no more audio."},
    {"read", (PyCFunction)(void (*)(void))AudioPort_read, METH_VARARGS | METH_KEYWORDS,
     "read($self, /, max_bytes=-1)\n--\n\nTake captured audio."},
    {"write", AudioPort_write, METH_O, "write($self, audio, /)\n--\n\nQueue audio, return the bytes accepted."},
    {"finish", AudioPort_finish, METH_NOARGS, "finish($self, /)\n--\n\nMark the end of an answer."},
    {"flush", AudioPort_flush, METH_NOARGS, "flush($self, /)\n--\n\nDrop what has not been played."},
    {"counters", AudioPort_counters, METH_NOARGS, "counters($self, /)\n--\n\nWhat has gone through so far."},
    {"close", AudioPort_close, METH_NOARGS, "close($self, /)\n--\n\nLeave the bridge."},
    {"__enter__", AudioPort_enter, METH_NOARGS, "__enter__($self, /)\n--\n\n"},
    {"__exit__", AudioPort_exit, METH_VARARGS, "__exit__($self, /, *args)\n--\n\nLeave the bridge."},
    {0},
};

static PyGetSetDef port_properties[] = {
    {"id", AudioPort_id, NULL, "Index in take_ready().", NULL},
    {"slot", AudioPort_slot, NULL, "Slot in the conference bridge, -1 when out of it.", NULL},
    {0},
};

static PyType_Slot port_slots[] = {
    {Py_tp_new, AudioPort_new},
    {Py_tp_dealloc, AudioPort_dealloc},
    {Py_tp_methods, port_methods},
    {Py_tp_getset, port_properties},
    {Py_tp_doc, "AudioPort(*, bridge_rate, encoding, rate, wake_ms=20)\n--\n\nTwo rings between pjmedia and Python."},
    {0, NULL},
};

static PyType_Spec port_spec = {
    .name = "pjaudioport.AudioPort",
    .basicsize = sizeof(AudioPort),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = port_slots,
};

static PyStructSequence_Field counter_fields[] = {
    {"captured", NULL},          {"uplink_dropped", NULL},    {"uplink_queued", NULL},
    {"written", NULL},           {"played", NULL},            {"flushed", NULL},
    {"queued", NULL},            {"downlink_rejected", NULL}, {"underruns", NULL},
    {"first_captured_ns", NULL}, {"first_played_ns", NULL},   {"playout_started_ns", NULL},
    {NULL, NULL},
};

static PyStructSequence_Desc counters_description = {
    "pjaudioport.Counters", "What has gone through a port, in samples at the bridge rate.", counter_fields, 12};

static PyMethodDef module_functions[] = {
    {"wake_fd", module_wake_fd, METH_NOARGS, "wake_fd($module, /)\n--\n\nReadable when take_ready() has news."},
    {"take_ready", module_take_ready, METH_NOARGS, "take_ready($module, /)\n--\n\nIds of ports with audio to read."},
    {"take_ticks", module_take_ticks, METH_NOARGS,
     "take_ticks($module, /)\n--\n\nTicks since the last call, late ones, ns of the longest."},
    {0},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pjaudioport",
    .m_doc = "Audio between pjmedia's conference bridge and Python, in bulk.",
    .m_size = -1,
    .m_methods = module_functions,
};

PyMODINIT_FUNC PyInit_pjaudioport(void)
{
    make_g711_tables();
    make_rows(rows_1[0], 1);
    make_rows(rows_2[0], 2);
    make_rows(rows_3[0], 3);
    PyObject *module = PyModule_Create(&definition);
    PyObject *port_type = PyType_FromSpec(&port_spec);
    counters_type = PyStructSequence_NewType(&counters_description);
    if (!module || !port_type || !counters_type || PyModule_AddObjectRef(module, "AudioPort", port_type) < 0
        || PyModule_AddObjectRef(module, "Counters", (PyObject *)counters_type) < 0)
        Py_CLEAR(module);
    Py_XDECREF(port_type);
    return module;
}
