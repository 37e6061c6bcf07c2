// SPDX-License-Identifier: Apache-2.0
#include "datapath/tracers.hpp"

#include <bpf/bpf.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/fd.hpp"

namespace mesh::datapath {
namespace {

std::string pin_of(const std::string& links_folder, const Tracer& tracer) {
  return links_folder + "/trace-" + std::string(tracer.name);
}

std::string next_of(const std::string& links_folder, const Tracer& tracer) {
  return pin_of(links_folder, tracer) + "-next";
}

}  // namespace

base::Result<void> attach_tracer(const std::string& links_folder, const Tracer& tracer, int program_fd) {
  const std::string what = "attach to tracepoint " + std::string(tracer.tracepoint);
  const base::Fd link(::bpf_raw_tracepoint_open(nullptr, program_fd));
  if (!link.valid()) return base::fail_errno(errno, what);
  const std::string pin = next_of(links_folder, tracer);
  if (::unlink(pin.c_str()) != 0 && errno != ENOENT) return base::fail_errno(errno, "remove link " + pin);
  if (::bpf_obj_pin(link.get(), pin.c_str()) != 0) return base::fail_errno(errno, "pin " + pin);
  return {};
}

base::Result<void> settle_tracers(const std::string& links_folder) {
  for (const Tracer& tracer : kTracers) {
    const std::string next = next_of(links_folder, tracer);
    if (::rename(next.c_str(), pin_of(links_folder, tracer).c_str()) != 0 && errno != ENOENT) {
      return base::fail_errno(errno, "rename " + next);
    }
  }
  return {};
}

std::uint32_t tracer_program(const std::string& links_folder, const Tracer& tracer) {
  const base::Fd link(::bpf_obj_get(pin_of(links_folder, tracer).c_str()));
  if (!link.valid()) return 0;
  bpf_link_info info{};
  std::uint32_t length = sizeof(info);
  return ::bpf_obj_get_info_by_fd(link.get(), &info, &length) == 0 ? info.prog_id : 0;
}

}  // namespace mesh::datapath
