/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * hooks.h - what each hook does, written once for every backend.
 *
 * on_*() is the body of a hook; fentry.bpf.c and tracepoint.bpf.c bind bodies
 * to attach points. Entry points (transmit, receive, drop; for what this host
 * sends also OUTPUT and neighbour resolution) match every packet;
 * all other bodies, or the programs that call them, return at once while nothing
 * of the flow is in flight.
 */
#ifndef PATHTRACE_HOOKS_H
#define PATHTRACE_HOOKS_H

#include "frame.h"
#include "rules_legacy.h"
#include "rules_nft.h"
#include "emit.h"
#include "enter.h"
#include "ends.h"
#include "netfilter.h"
#include "route.h"
#include "wireguard.h"

#endif
