/* rtp: the RTP side of many telephone calls at once, for load: sends and receives G.711 and notes every packet.
 *
 *     rtp ADDRESS RECORD_FILE
 *
 * It knows no SIP, no RTCP and no jitter buffer: who is called and what the packets mean is the owner's business. The
 * Python side is rtp.py, what is made of the records is packets.py.
 *
 *     stdin: commands                                                      stdout: one JSON line for each
 *           |                                                                          ^
 *           v                                                                          |
 *     [clips]   [calls] ----- each in one of 20 slots, by its id ------------------> stats
 *          |       |
 *          v       v     every 1 ms: one timer wake-up, one slot
 *        payload of 20 ms -> SRTP -> sendmmsg ----+
 *                                                 | one socket for all calls     +--> RECORD_FILE: 24 bytes a packet
 *        every 5 ms: recvmmsg until empty <-------+                              |
 *             |                                                                  |
 *             +--> call by source address -> SRTP -> header, level --------------+--> capture: the same and payload
 *
 * Why it is cheap: what is left is the kernel's work for each packet. There is one wake-up for a slot and none for a
 * packet that comes in; the kernel stamps those on arrival (SO_TIMESTAMPNS), so when they are read does not matter.
 *
 * Schedule: tick n is due at start + n ms on CLOCK_MONOTONIC and belongs to slot n % 20. A call's slot is its id times
 * the golden ratio: calls spread evenly over the 20 ms whatever ids are in use. Ticks that were missed are made up for
 * at once, in order; no packet is skipped. Lateness is the time from a tick's due time to just before sendmmsg.
 *
 * Commands (words separated by blanks, file names without blanks, HOST a numeric IPv4 address)
 *     clip NAME FILE                                    load raw G.711 bytes
 *     add ID HOST PORT PT [SEND_KEY RECEIVE_KEY]        a call, at first silent; PT 0 is PCMU, 8 is PCMA; keys are
 *                                                       base64 of AES_CM_128_HMAC_SHA1_80's key and salt (30 bytes)
 *     loop ID NAME [OFFSET_BYTES]                       play for ever, beginning at an offset
 *     play ID NAME                                      play once from the start with the next packet, then silence
 *     silence ID
 *     capture ID FILE                                   write records with payloads, until the call is removed
 *     remove ID
 *     record on|off                                     on: lateness and missed ticks are counted afresh, too
 *     stats
 *     quit                                              as does the end of stdin
 * Each is answered by {"done": COMMAND}, its result, or {"error": TEXT}. The first line of all is
 * {"event": "listening", "port": PORT}. What cannot be gone on with ends the process with a text on stderr.
 */

#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <srtp2/srtp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    TICK_NS = 1000000,
    SLOTS = 20,                /* ticks in the 20 ms of a packet */
    DRAIN_TICKS = 5,           /* receiving in batches costs less; the socket buffer holds hundreds of ms */
    FRAME = 160,               /* bytes and samples of 20 ms G.711 */
    HEADER = 12,
    CALLS = 1024,
    BUCKETS = 4096,            /* of the hash by address, a power of two */
    BATCH = 64,                /* messages per system call */
    DATAGRAM = 2048,           /* longest one that is received */
    SOCKET_BUFFER = 8 << 20,   /* bytes */
    RECORDS = 2048,            /* written at a time: 48 kB, some 20 us */
    LATE_LIMIT_US = 50000,     /* what is later shares the last place of the histogram; the worst is kept exactly */
    LINE_LIMIT = 4096,
    WORDS = 8,
    KEY = SRTP_AES_ICM_128_KEY_LEN_WSALT,
    KEY_BASE64 = KEY / 3 * 4,
    PCMU = 0,
    PCMA = 8,
    RECEIVED = 1,              /* bits of record.kind */
    OPENS = 2,                 /* first of its call and direction since `add` or `record on` */
};

/* One packet as it is written, in host byte order. The same in packets.py. */
struct record {
    int64_t time_ns;           /* CLOCK_REALTIME: the kernel's receive time, or just before sendmmsg */
    uint32_t call;
    uint32_t timestamp;
    uint16_t sequence;
    uint16_t level;            /* mean absolute amplitude in int16 units; 0 if not G.711 */
    uint16_t length;           /* bytes of payload */
    uint8_t kind;
    uint8_t marker_type;       /* second byte of the RTP header */
};
_Static_assert(sizeof(struct record) == 24, "no padding");

struct clip {
    struct clip *next;
    char *name;
    size_t length;
    uint8_t data[];
};

struct call {
    struct call *next_in_slot;
    struct call *next_in_bucket;
    bool used;
    uint8_t payload_type;
    bool marker;               /* on the first packet */
    bool looping;
    uint16_t sequence;
    uint32_t id;
    uint32_t timestamp;
    uint32_t ssrc;
    uint32_t sent_in;          /* recording that a packet was last noted in, for OPENS */
    uint32_t received_in;
    const struct clip *clip;   /* NULL: silence */
    size_t position;
    srtp_t outbound;           /* NULL: plain RTP */
    srtp_t inbound;
    FILE *capture;
    struct sockaddr_in remote;
};

struct outgoing {
    struct call *call;
    struct record record;
    uint8_t payload[FRAME];    /* before encryption, for the capture */
    _Alignas(8) uint8_t packet[HEADER + FRAME + SRTP_MAX_TRAILER_LEN];
};

struct incoming {
    struct sockaddr_in source;
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(struct timespec)) + CMSG_SPACE(sizeof(uint32_t))];
    _Alignas(8) uint8_t packet[DATAGRAM];
};

static struct call calls[CALLS];
static struct call *slots[SLOTS];
static struct call *buckets[BUCKETS];
static struct clip *clips;

static int rtp_socket;
static struct outgoing outgoing[BATCH];
static struct incoming incoming[BATCH];
static struct iovec outgoing_parts[BATCH], incoming_parts[BATCH];
static struct mmsghdr outgoing_messages[BATCH], incoming_messages[BATCH];

static int record_file;
static uint32_t recording;     /* number of the `record on` in force, 0: off */
static uint32_t recordings;
static struct record records[RECORDS];
static size_t record_count;

static uint16_t amplitudes[128][256]; /* by payload type and byte; rows other than PCMU and PCMA stay 0 */

static struct {
    uint64_t sent, received, unknown_source, malformed, send_errors, srtp_errors;
    uint32_t receive_drops;
} total;

static struct {
    uint64_t ticks_missed, count, worst_ns;
    uint32_t histogram_us[LATE_LIMIT_US + 1];
} late;

static bool running = true;

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "rtp: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* G.711 */

static void fill_amplitudes(void)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        unsigned mu = ~byte & 0x7f; /* ITU-T G.711, table 2 */
        amplitudes[PCMU][byte] = (uint16_t)(((((mu & 0x0f) << 3) + 0x84) << (mu >> 4)) - 0x84);
        unsigned a = (byte ^ 0x55) & 0x7f; /* table 1 */
        unsigned exponent = a >> 4, step = ((a & 0x0f) << 4) + 8;
        amplitudes[PCMA][byte] = (uint16_t)(exponent ? (step + 0x100) << (exponent - 1) : step);
    }
}

static uint16_t level_of(const uint8_t *payload, size_t length, uint8_t payload_type)
{
    const uint16_t *amplitude = amplitudes[payload_type & 0x7f];
    uint32_t sum = 0;
    for (size_t i = 0; i < length; i++)
        sum += amplitude[payload[i]];
    return length ? (uint16_t)(sum / length) : 0;
}

static void next_payload(struct call *call, uint8_t *payload)
{
    size_t filled = 0;
    while (call->clip && filled < FRAME) {
        size_t left = call->clip->length - call->position;
        size_t part = left < FRAME - filled ? left : FRAME - filled;
        memcpy(payload + filled, call->clip->data + call->position, part);
        filled += part;
        call->position += part;
        if (call->position == call->clip->length) {
            call->position = 0;
            if (!call->looping)
                call->clip = NULL;
        }
    }
    memset(payload + filled, call->payload_type == PCMA ? 0xd5 : 0xff, FRAME - filled);
}

/* Records */

static void flush_records(void)
{
    const char *bytes = (const char *)records;
    size_t left = record_count * sizeof *records;
    while (left) {
        ssize_t written = write(record_file, bytes, left);
        if (written < 0)
            fail("the records cannot be written");
        bytes += written;
        left -= (size_t)written;
    }
    record_count = 0;
}

/* Notes one packet where it is wanted. `noted_in` is the call's own of the packet's direction. */
static void note(struct call *call, uint32_t *noted_in, struct record *record, const uint8_t *payload)
{
    if (!recording && !call->capture)
        return;
    record->call = call->id;
    record->level = level_of(payload, record->length, record->marker_type);
    if (call->capture) {
        if (fwrite(record, sizeof *record, 1, call->capture) != 1
            || fwrite(payload, 1, record->length, call->capture) != record->length)
            fail("the capture cannot be written");
    }
    if (!recording)
        return;
    if (*noted_in != recording)
        record->kind |= OPENS;
    *noted_in = recording;
    records[record_count++] = *record;
    if (record_count == RECORDS)
        flush_records();
}

/* Sending */

static void put16(uint8_t *at, uint16_t value)
{
    value = htons(value);
    memcpy(at, &value, sizeof value);
}

static void put32(uint8_t *at, uint32_t value)
{
    value = htonl(value);
    memcpy(at, &value, sizeof value);
}

static uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)get16(at) << 16 | get16(at + 2);
}

/* Fills place `index` of the batch with the call's next packet. */
static void prepare(struct call *call, unsigned index)
{
    struct outgoing *out = &outgoing[index];
    uint8_t *packet = out->packet;
    out->call = call;
    out->record = (struct record){
        .timestamp = call->timestamp,
        .sequence = call->sequence,
        .length = FRAME,
        .marker_type = (uint8_t)(call->marker << 7 | call->payload_type),
    };
    packet[0] = 2 << 6; /* version; RFC 3550, 5.1 */
    packet[1] = out->record.marker_type;
    put16(packet + 2, call->sequence++);
    put32(packet + 4, call->timestamp);
    put32(packet + 8, call->ssrc);
    call->timestamp += FRAME;
    call->marker = false;
    next_payload(call, out->payload);
    memcpy(packet + HEADER, out->payload, FRAME);
    int length = HEADER + FRAME;
    if (call->outbound && srtp_protect(call->outbound, packet, &length) != srtp_err_status_ok)
        total.srtp_errors++; /* it goes out as it is, and the receiver refuses it */
    outgoing_parts[index].iov_len = (size_t)length;
    outgoing_messages[index].msg_hdr.msg_name = &call->remote;
}

static void count_lateness(int64_t due_ns, unsigned packets)
{
    int64_t late_ns = now_ns(CLOCK_MONOTONIC) - due_ns;
    uint64_t positive = late_ns > 0 ? (uint64_t)late_ns : 0;
    uint64_t us = positive / 1000;
    late.histogram_us[us < LATE_LIMIT_US ? us : LATE_LIMIT_US] += packets;
    late.count += packets;
    if (positive > late.worst_ns)
        late.worst_ns = positive;
}

static void transmit(unsigned count, int64_t due_ns)
{
    count_lateness(due_ns, count);
    for (unsigned done = 0; done < count;) {
        int64_t time_ns = now_ns(CLOCK_REALTIME);
        int sent = sendmmsg(rtp_socket, outgoing_messages + done, count - done, 0);
        if (sent < 0) { /* the first of them is to blame */
            total.send_errors++;
            done++;
            continue;
        }
        total.sent += (unsigned)sent;
        for (unsigned end = done + (unsigned)sent; done < end; done++) {
            struct outgoing *out = &outgoing[done];
            out->record.time_ns = time_ns;
            note(out->call, &out->call->sent_in, &out->record, out->payload);
        }
    }
}

static void send_slot(struct call *call, int64_t due_ns)
{
    while (call) {
        unsigned count = 0;
        for (; call && count < BATCH; call = call->next_in_slot)
            prepare(call, count++);
        transmit(count, due_ns);
    }
}

/* Receiving */

static struct call **bucket_of(const struct sockaddr_in *address)
{
    uint64_t key = (uint64_t)address->sin_addr.s_addr << 16 | address->sin_port;
    return &buckets[(key * UINT64_C(0x9e3779b97f4a7c15)) >> 40 & (BUCKETS - 1)];
}

static struct call *call_from(const struct sockaddr_in *source)
{
    struct call *call = *bucket_of(source);
    while (call
           && (call->remote.sin_port != source->sin_port || call->remote.sin_addr.s_addr != source->sin_addr.s_addr))
        call = call->next_in_bucket;
    return call;
}

/* Where the payload of a whole RTP packet lies (RFC 3550, 5.1 and 5.3.1), or false. */
static bool find_payload(const uint8_t *packet, size_t size, size_t *begin, size_t *end)
{
    if (size < HEADER || packet[0] >> 6 != 2)
        return false;
    *begin = HEADER + 4u * (packet[0] & 0x0f);
    if (packet[0] & 0x10) {
        if (size < *begin + 4)
            return false;
        *begin += 4 + 4u * get16(packet + *begin + 2);
    }
    *end = size - (packet[0] & 0x20 ? packet[size - 1] : 0);
    return *begin <= *end && *end <= size;
}

/* The kernel's time of arrival. Takes notice of the count of packets that found the socket's buffer full, too. */
static int64_t arrival_ns(struct msghdr *message)
{
    struct timespec stamp = {0};
    for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control; control = CMSG_NXTHDR(message, control)) {
        if (control->cmsg_level != SOL_SOCKET)
            continue;
        if (control->cmsg_type == SCM_TIMESTAMPNS)
            memcpy(&stamp, CMSG_DATA(control), sizeof stamp);
        else if (control->cmsg_type == SO_RXQ_OVFL)
            memcpy(&total.receive_drops, CMSG_DATA(control), sizeof total.receive_drops);
    }
    return stamp.tv_sec * INT64_C(1000000000) + stamp.tv_nsec;
}

static void receive(struct incoming *in, struct mmsghdr *message)
{
    int64_t time_ns = arrival_ns(&message->msg_hdr);
    int length = (int)message->msg_len;
    struct call *call = call_from(&in->source);
    if (!call) {
        total.unknown_source++;
        return;
    }
    if (call->inbound && srtp_unprotect(call->inbound, in->packet, &length) != srtp_err_status_ok) {
        total.srtp_errors++;
        return;
    }
    size_t begin, end;
    if (!find_payload(in->packet, (size_t)length, &begin, &end)) {
        total.malformed++;
        return;
    }
    total.received++;
    struct record record = {
        .time_ns = time_ns,
        .timestamp = get32(in->packet + 4),
        .sequence = get16(in->packet + 2),
        .length = (uint16_t)(end - begin),
        .kind = RECEIVED,
        .marker_type = in->packet[1],
    };
    note(call, &call->received_in, &record, in->packet + begin);
}

static void drain(void)
{
    int count = BATCH;
    while (count == BATCH) {
        count = recvmmsg(rtp_socket, incoming_messages, BATCH, MSG_DONTWAIT, NULL);
        for (int i = 0; i < count; i++) {
            struct msghdr *header = &incoming_messages[i].msg_hdr;
            receive(&incoming[i], &incoming_messages[i]);
            header->msg_namelen = sizeof incoming[i].source;
            header->msg_controllen = sizeof incoming[i].control;
        }
    }
}

/* Commands. Each returns NULL when done, ANSWERED when it has written its own answer, or what is wrong. */

static const char ANSWERED[] = "";

static void answer(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

static bool parse_number(const char *text, uint64_t most, uint64_t *number)
{
    char *end;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && !errno && *number <= most;
}

static bool parse_key(const char *text, uint8_t key[KEY])
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    if (strlen(text) != KEY_BASE64)
        return false;
    for (unsigned i = 0; i < KEY_BASE64; i++) {
        const char *found = strchr(alphabet, text[i]);
        if (!found)
            return false;
        bits = bits << 6 | (uint32_t)(found - alphabet);
        if (i % 4 == 3) {
            *key++ = (uint8_t)(bits >> 16);
            *key++ = (uint8_t)(bits >> 8);
            *key++ = (uint8_t)bits;
        }
    }
    return true;
}

static struct call *call_of(const char *id)
{
    uint64_t number;
    if (!parse_number(id, UINT32_MAX, &number))
        return NULL;
    for (struct call *call = calls; call < calls + CALLS; call++)
        if (call->used && call->id == number)
            return call;
    return NULL;
}

static const struct clip *clip_of(const char *name)
{
    const struct clip *clip = clips;
    while (clip && strcmp(clip->name, name))
        clip = clip->next;
    return clip;
}

static const char *do_clip(char **words, int count)
{
    (void)count;
    const char *name = words[1];
    if (clip_of(name))
        return "there is a clip of that name";
    FILE *file = fopen(words[2], "rb");
    if (!file)
        return strerror(errno);
    struct stat status;
    if (fstat(fileno(file), &status) || status.st_size <= 0) {
        fclose(file);
        return "the clip is empty";
    }
    size_t length = (size_t)status.st_size;
    struct clip *clip = malloc(sizeof *clip + length);
    if (!clip || !(clip->name = strdup(name)))
        fail("no memory for a clip");
    clip->length = fread(clip->data, 1, length, file);
    fclose(file);
    if (clip->length != length) {
        free(clip->name);
        free(clip);
        return "the clip cannot be read";
    }
    clip->next = clips;
    clips = clip;
    return NULL;
}

static srtp_t open_srtp(uint8_t key[KEY], srtp_ssrc_type_t direction)
{
    srtp_policy_t policy = {.ssrc = {.type = direction}, .key = key};
    srtp_crypto_policy_set_rtp_default(&policy.rtp); /* AES_CM_128_HMAC_SHA1_80 */
    srtp_crypto_policy_set_rtcp_default(&policy.rtcp);
    srtp_t session;
    if (srtp_create(&session, &policy) != srtp_err_status_ok) {
        errno = ENOMEM;
        fail("libsrtp gives no session");
    }
    return session;
}

static struct call **slot_of(uint32_t id)
{
    uint32_t turn = id * UINT32_C(2654435769); /* 2^32 / golden ratio: a fraction of the 20 ms */
    return &slots[(uint64_t)turn * SLOTS >> 32];
}

static const char *do_add(char **words, int count)
{
    uint64_t id, port, type;
    uint8_t send_key[KEY], receive_key[KEY];
    struct sockaddr_in remote = {.sin_family = AF_INET};
    if (!parse_number(words[1], UINT32_MAX, &id))
        return "the id is not a number of 32 bits";
    if (call_of(words[1]))
        return "there is a call of that id";
    if (inet_pton(AF_INET, words[2], &remote.sin_addr) != 1)
        return "the host is not an IPv4 address";
    if (!parse_number(words[3], UINT16_MAX, &port) || !port)
        return "the port is not one of 1 to 65535";
    remote.sin_port = htons((uint16_t)port);
    if (call_from(&remote))
        return "there is a call with that address and port";
    if (!parse_number(words[4], UINT8_MAX, &type) || (type != PCMU && type != PCMA))
        return "the payload type is not 0 or 8";
    if (count == 6 || (count == 7 && !(parse_key(words[5], send_key) && parse_key(words[6], receive_key))))
        return "the keys are not twice the base64 of 30 bytes";
    struct call *call = calls;
    while (call < calls + CALLS && call->used)
        call++;
    if (call == calls + CALLS)
        return "there are 1024 calls";

    struct call **slot = slot_of((uint32_t)id), **bucket = bucket_of(&remote);
    *call = (struct call){
        .next_in_slot = *slot,
        .next_in_bucket = *bucket,
        .used = true,
        .payload_type = (uint8_t)type,
        .marker = true,
        .id = (uint32_t)id,
        .remote = remote,
    };
    if (getrandom(&call->ssrc, sizeof call->ssrc, 0) < 0 || getrandom(&call->timestamp, sizeof call->timestamp, 0) < 0
        || getrandom(&call->sequence, sizeof call->sequence, 0) < 0)
        fail("no random numbers");
    call->sequence &= 0x7fff; /* RFC 3711, 3.3.1: the receiver guesses the rollover counter from it */
    if (count == 7) {
        call->outbound = open_srtp(send_key, ssrc_any_outbound);
        call->inbound = open_srtp(receive_key, ssrc_any_inbound);
    }
    *slot = *bucket = call;
    return NULL;
}

static const char *start_clip(char **words, uint64_t offset, bool looping)
{
    struct call *call = call_of(words[1]);
    const struct clip *clip = clip_of(words[2]);
    if (!call)
        return "there is no such call";
    if (!clip)
        return "there is no such clip";
    call->clip = clip;
    call->position = offset % clip->length;
    call->looping = looping;
    return NULL;
}

static const char *do_loop(char **words, int count)
{
    uint64_t offset = 0;
    if (count == 4 && !parse_number(words[3], SIZE_MAX, &offset))
        return "the offset is not a number";
    return start_clip(words, offset, true);
}

static const char *do_play(char **words, int count)
{
    (void)count;
    return start_clip(words, 0, false);
}

static const char *do_silence(char **words, int count)
{
    (void)count;
    struct call *call = call_of(words[1]);
    if (!call)
        return "there is no such call";
    call->clip = NULL;
    return NULL;
}

static const char *do_capture(char **words, int count)
{
    (void)count;
    struct call *call = call_of(words[1]);
    if (!call)
        return "there is no such call";
    if (call->capture)
        return "the call is captured already";
    call->capture = fopen(words[2], "wbe");
    return call->capture ? NULL : strerror(errno);
}

static void remove_call(struct call *call)
{
    struct call **link = slot_of(call->id);
    while (*link != call)
        link = &(*link)->next_in_slot;
    *link = call->next_in_slot;
    link = bucket_of(&call->remote);
    while (*link != call)
        link = &(*link)->next_in_bucket;
    *link = call->next_in_bucket;
    if (call->outbound) {
        srtp_dealloc(call->outbound);
        srtp_dealloc(call->inbound);
    }
    if (call->capture && fclose(call->capture))
        fail("the capture cannot be written");
    call->used = false;
}

static const char *do_remove(char **words, int count)
{
    (void)count;
    struct call *call = call_of(words[1]);
    if (!call)
        return "there is no such call";
    remove_call(call);
    return NULL;
}

static const char *do_record(char **words, int count)
{
    (void)count;
    if (!strcmp(words[1], "on")) {
        recording = ++recordings;
        memset(&late, 0, sizeof late);
    } else if (!strcmp(words[1], "off")) {
        recording = 0;
        flush_records();
    } else {
        return "record what? on or off";
    }
    return NULL;
}

static unsigned late_p99_us(void)
{
    uint64_t seen = 0;
    unsigned us = 0;
    while (us < LATE_LIMIT_US && (seen += late.histogram_us[us]) * 100 < late.count * 99)
        us++;
    return us;
}

static const char *do_stats(char **words, int count)
{
    (void)words, (void)count;
    answer("{\"sent\": %" PRIu64 ", \"received\": %" PRIu64 ", \"unknown_source\": %" PRIu64 ", \"malformed\": %" PRIu64
           ", \"send_errors\": %" PRIu64 ", \"srtp_errors\": %" PRIu64 ", \"receive_drops\": %" PRIu32
           ", \"ticks_missed\": %" PRIu64 ", \"late_p99_us\": %u, \"late_max_us\": %" PRIu64 "}",
           total.sent, total.received, total.unknown_source, total.malformed, total.send_errors, total.srtp_errors,
           total.receive_drops, late.ticks_missed, late_p99_us(), late.worst_ns / 1000);
    return ANSWERED;
}

static const char *do_quit(char **words, int count)
{
    (void)words, (void)count;
    running = false;
    return NULL;
}

static const struct {
    const char *name;
    int least, most; /* words, with the name */
    const char *(*run)(char **words, int count);
} commands[] = {
    {"clip", 3, 3, do_clip},       {"add", 5, 7, do_add},         {"loop", 3, 4, do_loop},
    {"play", 3, 3, do_play},       {"silence", 2, 2, do_silence}, {"capture", 3, 3, do_capture},
    {"remove", 2, 2, do_remove},   {"record", 2, 2, do_record},   {"stats", 1, 1, do_stats},
    {"quit", 1, 1, do_quit},
};

static void obey(char *line)
{
    char *words[WORDS], *rest = NULL;
    int count = 0;
    for (char *word = strtok_r(line, " \t\r", &rest); word && count < WORDS; word = strtok_r(NULL, " \t\r", &rest))
        words[count++] = word;
    for (size_t i = 0; count && i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(words[0], commands[i].name))
            continue;
        const char *wrong = "that is not how many words the command takes";
        if (count >= commands[i].least && count <= commands[i].most)
            wrong = commands[i].run(words, count);
        if (!wrong)
            answer("{\"done\": \"%s\"}", commands[i].name);
        else if (wrong != ANSWERED)
            answer("{\"error\": \"%s\"}", wrong);
        return;
    }
    answer("{\"error\": \"there is no such command\"}");
}

/* Reads what has come on stdin and obeys its whole lines. */
static void read_commands(void)
{
    static char line[LINE_LIMIT];
    static size_t filled;
    ssize_t count = read(STDIN_FILENO, line + filled, sizeof line - filled);
    if (count <= 0) {
        running = false;
        return;
    }
    filled += (size_t)count;
    char *begin = line;
    for (char *end; (end = memchr(begin, '\n', filled)) != NULL; begin = end + 1) {
        *end = '\0';
        filled -= (size_t)(end + 1 - begin);
        drain(); /* what came before the command belongs before it */
        obey(begin);
    }
    memmove(line, begin, filled);
    if (filled == sizeof line) {
        answer("{\"error\": \"the line is too long\"}");
        filled = 0;
    }
}

/* Start and main loop */

static void set_buffer(int option, int force_option)
{
    int size = SOCKET_BUFFER; /* beyond the system's limit if allowed, else up to it */
    if (setsockopt(rtp_socket, SOL_SOCKET, force_option, &size, sizeof size))
        setsockopt(rtp_socket, SOL_SOCKET, option, &size, sizeof size);
}

/* Binds a UDP socket; port 0 takes any. Returns -1 when the port is in use. */
static int bound_socket(struct sockaddr_in *address, uint16_t port)
{
    int bound = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t length = sizeof *address;
    address->sin_port = htons(port);
    if (bound < 0)
        fail("no socket");
    if (bind(bound, (struct sockaddr *)address, length)) {
        if (errno != EADDRINUSE)
            fail("the address cannot be bound");
        close(bound);
        return -1;
    }
    getsockname(bound, (struct sockaddr *)address, &length);
    return bound;
}

/* Takes an even port for RTP and the next one for RTCP: nobody reads RTCP, but a closed port would answer by ICMP. */
static uint16_t open_sockets(struct sockaddr_in *address)
{
    static const int on = 1, smallest = 0;
    for (int attempt = 0; attempt < 200; attempt++) {
        rtp_socket = bound_socket(address, 0);
        if (rtp_socket < 0)
            continue;
        uint16_t port = ntohs(address->sin_port);
        int rtcp_socket = port % 2 ? -1 : bound_socket(address, (uint16_t)(port + 1));
        if (rtcp_socket < 0) {
            close(rtp_socket);
            continue;
        }
        setsockopt(rtcp_socket, SOL_SOCKET, SO_RCVBUF, &smallest, sizeof smallest);
        set_buffer(SO_RCVBUF, SO_RCVBUFFORCE);
        set_buffer(SO_SNDBUF, SO_SNDBUFFORCE);
        if (setsockopt(rtp_socket, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on)
            || setsockopt(rtp_socket, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on))
            fail("the kernel does not stamp packets");
        return port;
    }
    fail("no pair of ports");
}

static void lay_out_batches(void)
{
    for (unsigned i = 0; i < BATCH; i++) {
        outgoing_parts[i].iov_base = outgoing[i].packet;
        outgoing_messages[i].msg_hdr = (struct msghdr){
            .msg_namelen = sizeof(struct sockaddr_in), .msg_iov = &outgoing_parts[i], .msg_iovlen = 1};
        incoming_parts[i] = (struct iovec){.iov_base = incoming[i].packet, .iov_len = DATAGRAM};
        incoming_messages[i].msg_hdr = (struct msghdr){
            .msg_name = &incoming[i].source, .msg_namelen = sizeof incoming[i].source,
            .msg_iov = &incoming_parts[i], .msg_iovlen = 1,
            .msg_control = incoming[i].control, .msg_controllen = sizeof incoming[i].control};
    }
}

static int start_timer(int64_t first_ns)
{
    struct itimerspec every = {
        .it_interval = {.tv_nsec = TICK_NS},
        .it_value = {.tv_sec = first_ns / 1000000000, .tv_nsec = first_ns % 1000000000},
    };
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (timer < 0 || timerfd_settime(timer, TFD_TIMER_ABSTIME, &every, NULL))
        fail("no timer");
    return timer;
}

/* Sends every slot that has come due and receives now and then. Returns the next tick. */
static uint64_t run_ticks(int64_t start_ns, uint64_t tick)
{
    int64_t now = now_ns(CLOCK_MONOTONIC);
    uint64_t reached = (uint64_t)(now - start_ns) / TICK_NS;
    bool wants_drain = false;
    if (reached > tick)
        late.ticks_missed += reached - tick;
    for (; tick <= reached; tick++) {
        send_slot(slots[tick % SLOTS], start_ns + (int64_t)tick * TICK_NS);
        wants_drain |= tick % DRAIN_TICKS == 0;
    }
    if (wants_drain)
        drain();
    return tick;
}

int main(int count, char **arguments)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (count != 3 || inet_pton(AF_INET, arguments[1], &address.sin_addr) != 1) {
        fprintf(stderr, "usage: rtp ADDRESS RECORD_FILE\n");
        return 2;
    }
    record_file = open(arguments[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (record_file < 0)
        fail(arguments[2]);
    if (srtp_init() != srtp_err_status_ok) {
        fprintf(stderr, "rtp: libsrtp does not start\n");
        return 1;
    }
    fill_amplitudes();
    lay_out_batches();
    uint16_t port = open_sockets(&address);
    int64_t start_ns = now_ns(CLOCK_MONOTONIC) + TICK_NS;
    struct pollfd watched[] = {{.fd = start_timer(start_ns), .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    answer("{\"event\": \"listening\", \"port\": %u}", port);

    for (uint64_t tick = 0; running;) {
        if (poll(watched, 2, -1) < 0 && errno != EINTR)
            fail("poll");
        uint64_t expirations;
        if (read(watched[0].fd, &expirations, sizeof expirations) > 0)
            tick = run_ticks(start_ns, tick);
        if (watched[1].revents)
            read_commands();
    }
    for (struct call *call = calls; call < calls + CALLS; call++)
        if (call->used)
            remove_call(call);
    flush_records();
    return 0;
}
