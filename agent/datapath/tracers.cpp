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

/// All zero if there is no link.
bpf_link_info read_link(const std::string& links_folder, const Tracer& tracer) {
  bpf_link_info info{};
  std::uint32_t length = sizeof(info);
  const base::Fd link(::bpf_obj_get(pin_of(links_folder, tracer).c_str()));
  if (link.valid() && ::bpf_obj_get_info_by_fd(link.get(), &info, &length) != 0) info = {};
  return info;
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

base::Result<void> remove_tracer(const std::string& links_folder, const Tracer& tracer) {
  const std::string pin = pin_of(links_folder, tracer);
  if (::unlink(pin.c_str()) != 0 && errno != ENOENT) return base::fail_errno(errno, "remove link " + pin);
  return {};
}

std::uint32_t tracer_program(const std::string& links_folder, const Tracer& tracer) {
  return read_link(links_folder, tracer).prog_id;
}

std::vector<HookStatus> tracer_status(const std::string& links_folder) {
  std::vector<HookStatus> result;
  for (const Tracer& tracer : kTracers) {
    HookStatus& status = result.emplace_back();
    status.cgroup = kTracerPlace;
    status.hook = tracer.tracepoint;
    const bpf_link_info link = read_link(links_folder, tracer);
    const auto program =
        link.prog_id == 0 ? base::fail(base::ErrorKind::kNotFound, "not attached") : program_info(link.prog_id);
    if (!program) {
      status.error = program.error().message;
      continue;
    }
    // The kernel keeps the first 15 characters of a name (BPF_OBJ_NAME_LEN).
    status.attached = program->name == tracer.program.substr(0, BPF_OBJ_NAME_LEN - 1);
    if (!status.attached) {
      status.error = "the pin holds another program: " + program->name;
      continue;
    }
    status.effective = true;
    status.link_id = link.id;
    status.program_id = link.prog_id;
    status.program_age = boot_time() - program->loaded_at;
  }
  return result;
}

}  // namespace mesh::datapath
