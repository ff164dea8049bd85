/* Compile-time sizes of pjproject, for a worker that carries hundreds of calls. build.py copies this file to
 * pjlib/include/pj/config_site.h; struct layouts depend on it, so everything that includes pjproject headers is
 * compiled with the same copy. Features (TLS, SRTP, codecs, no video, no sound card) are switches of ./configure
 * and are not repeated here.
 */
#ifndef VOICEPOOL_CONFIG_SITE_H
#define VOICEPOOL_CONFIG_SITE_H

/* Calls in one endpoint. The stock limit is 4. UaConfig.maxCalls chooses the number at run time and only that many
 * are allocated (22 kB each). */
#define PJSUA_MAX_CALLS 512

/* Slots of the conference bridge: two a call (its stream, its audio port), the master port, and spare ones for
 * streams that are replaced in a re-INVITE and wait for their removal. MediaConfig.maxMediaPorts chooses at run time. */
#define PJSUA_MAX_CONF_PORTS 1100

/* Sockets in one media ioqueue: RTP and RTCP of every call, two apiece, and as many again for calls that end while
 * others begin. The stock 64 stops at 32 calls. epoll allocates this many keys at start (about 1.5 MB). */
#define PJ_IOQUEUE_MAX_HANDLES 4096

/* Sockets of the SIP ioqueue: listeners and one TCP or TLS connection for each peer. */
#define PJSIP_MAX_TRANSPORTS 2048

/* Buckets of the transaction hash table (a table size of 2^n - 1, not a limit): at 512 calls and 32 s of Timer B
 * and J a busy worker holds a few thousand. */
#define PJSIP_MAX_TSX_COUNT 8191

/* Buckets of the dialog hash table (2^n - 1, not a limit). */
#define PJSIP_MAX_DIALOG_COUNT 2047

/* Bytes of the largest SIP message sent or received. An INVITE through several session border controllers, with
 * ICE or SRTP lines in its SDP, passes the stock 4000. */
#define PJSIP_MAX_PKT_LEN 8000

/* Bytes of the longest URI that is printed into a buffer. Contacts of cloud telephony carry opaque parameters and pass
 * the stock 256. */
#define PJSIP_MAX_URL_SIZE 512

/* Highest level of log lines that is compiled in: 3 is errors, warnings and what happens to calls. Levels 4 and 5 would
 * also be printed to stdout before an endpoint can be configured, into the middle of the processes' JSON lines. */
#define PJ_LOG_MAX_LEVEL 3

#endif
