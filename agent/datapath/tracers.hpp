// SPDX-License-Identifier: Apache-2.0
// The programs on tracepoints that see what becomes of connections (bpf/outcome.bpf.c). They belong to no
// cgroup: one link each, pinned beside those of the hooks, so that they live without an agent.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "datapath/hooks.hpp"

namespace mesh::datapath {

struct Tracer {
  std::string_view name;  ///< In the pin: "trace-established".
  std::string_view tracepoint;
  std::string_view program;
};
inline constexpr std::array<Tracer, 2> kTracers{{
    {"established", "inet_sock_set_state", "mesh_established"},
    {"error", "inet_sk_error_report", "mesh_error"},
}};

/// Attaches the program beside the one that may be there already: whatever both see counts once (the record remembers).
/// A link of this kind can't be given another program, so the old one goes with settle_tracers(), when all sockets have
/// records that the new one finds.
base::Result<void> attach_tracer(const std::string& links_folder, const Tracer& tracer, int program_fd);
base::Result<void> settle_tracers(const std::string& links_folder);
/// Ends whatever link has the tracer's name; older kernels take a moment until its program can be attached again.
base::Result<void> remove_tracer(const std::string& links_folder, const Tracer& tracer);
/// The id of the program that runs, 0 if none does.
std::uint32_t tracer_program(const std::string& links_folder, const Tracer& tracer);

/// In place of a cgroup, where hooks are listed.
inline constexpr std::string_view kTracerPlace = "tracepoint";
/// One for each tracer. Attached: the pin holds a link of a program of that name; that is then in effect, too.
std::vector<HookStatus> tracer_status(const std::string& links_folder);

}  // namespace mesh::datapath
