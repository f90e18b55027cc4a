// SPDX-License-Identifier: Apache-2.0

// Package bpf holds the kernel half of pathtrace: the C sources, the objects
// compiled from them (committed, little-endian, so that building the Go
// program needs no clang) and the Go types of what both halves share.
//
// Regenerate with `make generate`; CI proves that the objects match.
package bpf

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cc clang -cflags "-I/usr/include/x86_64-linux-gnu -O2 -g -Wall -Werror -mcpu=v3 -D__TARGET_ARCH_x86 -fdebug-prefix-map=$PWD=." -no-global-types -type event -type event_table -type event_route -type event_neigh -type event_ct -type event_drop -type event_module -type frame -type tracked -type tuple -type tunnel -type tunnel_kind -type carrier -type filter -type end -type end_key -type end_of -type prefix -type counters -type kind -type fn -type dir -type event_flag -type tracked_flag -type rules_flag -type rule_match -type map_key -type looked Fentry fentry.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cc clang -cflags "-I/usr/include/x86_64-linux-gnu -O2 -g -Wall -Werror -mcpu=v3 -D__TARGET_ARCH_x86 -fdebug-prefix-map=$PWD=." -no-global-types -type bracket_key -type bracket_table Tracepoint tracepoint.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel -cc clang -cflags "-I/usr/include/x86_64-linux-gnu -O2 -g -Wall -Werror -mcpu=v3 -D__TARGET_ARCH_x86 -fdebug-prefix-map=$PWD=." -no-global-types -type change -type change_kind -type actor -type agent_name -type node_counters Node node.bpf.c
