// SPDX-License-Identifier: Apache-2.0
#include "datapath/programs.hpp"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "datapath/tracers.hpp"

namespace mesh::datapath {
namespace {

constexpr std::size_t kLogMax = 64 << 10;  // of what libbpf says about one load
constexpr TableSizes kTrialSizes = {.services = 1,
                                    .ranges = 1,
                                    .slots = 1,
                                    .backends = 1,
                                    .owners = 1,
                                    .affinities = 1,
                                    .events = 1U << 16,  // the largest page
                                    .live_shards = 1};   // a load to see whether the verifier takes a program

thread_local std::string load_log;

int keep_log(libbpf_print_level level, const char* format, va_list arguments) {
  if (level != LIBBPF_WARN || load_log.size() > kLogMax) return 0;
  char* line = nullptr;
  const int length = ::vasprintf(&line, format, arguments);
  if (length < 0) return 0;
  load_log.append(line, static_cast<std::size_t>(length));
  std::free(line);
  return length;
}

/// The end of the log, where the verifier says what it did not like.
std::string last_words() {
  constexpr std::size_t kWords = 600;
  return load_log.size() <= kWords ? load_log : "... " + load_log.substr(load_log.size() - kWords);
}

bool has_helper(bpf_prog_type type, bpf_func_id helper) {
  return ::libbpf_probe_bpf_helper(type, helper, nullptr) == 1;
}

/// The kernel's types and functions; empty if it doesn't tell. Reading them takes some 10 ms.
using KernelTypes = std::unique_ptr<btf, decltype([](btf* types) { ::btf__free(types); })>;

bool has_kernel_function(const KernelTypes& kernel, const char* name) {
  return kernel && ::btf__find_by_name_kind(kernel.get(), name, BTF_KIND_FUNC) > 0;
}

bool has_field(const KernelTypes& kernel, const char* type, std::string_view field) {
  const int id = kernel ? ::btf__find_by_name_kind(kernel.get(), type, BTF_KIND_STRUCT) : -1;
  if (id <= 0) return false;
  const btf_type* const found = ::btf__type_by_id(kernel.get(), static_cast<std::uint32_t>(id));
  const std::span fields(::btf_members(found), ::btf_vlen(found));
  return std::ranges::any_of(
      fields, [&](const btf_member& one) { return field == ::btf__name_by_offset(kernel.get(), one.name_off); });
}

/// Loads a program that does nothing there: libbpf's own probe of this type asks in a way that newer kernels refuse.
bool has_tracepoint(const KernelTypes& kernel, std::string_view name) {
  const std::string type = "btf_trace_" + std::string(name);
  const int target = kernel ? ::btf__find_by_name_kind(kernel.get(), type.c_str(), BTF_KIND_TYPEDEF) : -1;
  if (target <= 0) return false;
  const bpf_insn nothing[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0},
                              {.code = BPF_JMP | BPF_EXIT}};
  bpf_prog_load_opts options{};
  options.sz = sizeof(options);
  options.expected_attach_type = BPF_TRACE_RAW_TP;
  options.attach_btf_id = static_cast<std::uint32_t>(target);
  const base::Fd program(
      ::bpf_prog_load(BPF_PROG_TYPE_TRACING, "mesh_probe", "GPL", nothing, std::size(nothing), &options));
  return program.valid();
}

std::string failed(std::string_view doing, std::string_view name) {
  return std::string(doing) + " " + std::string(name) + " of the BPF image";
}

bpf_map* find_map(const bpf_object* object, std::string_view name) {
  return ::bpf_object__find_map_by_name(object, std::string(name).c_str());
}

bpf_map* find_config(bpf_object* object) {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    if (std::string_view(::bpf_map__name(map)).ends_with(MESH_CONFIG_SECTION)) return map;
  }
  return nullptr;
}

/// Programs that the mesh can do without, together: a kernel may have all they need and its verifier still refuse them.
struct Optional {
  std::string_view feature;
  bool KernelFeatures::* has;
  std::vector<std::string_view> programs;
};

std::vector<Optional> optional_programs() {
  std::vector<std::string_view> tracers;
  for (const Tracer& tracer : kTracers) tracers.push_back(tracer.program);
  return {{"explain", &KernelFeatures::explain, {"mesh_explain_pick"}},
          {"census", &KernelFeatures::census, {"mesh_meet_tcp", "mesh_meet_udp", "mesh_meet_files"}},
          {"kill", &KernelFeatures::kill, {"mesh_kill_tcp", "mesh_kill_udp"}},
          {"guard", &KernelFeatures::guard, {"mesh_guard"}},
          {"tracing", &KernelFeatures::tracing, std::move(tracers)}};
}

void set_autoload(bpf_object* object, std::string_view name, bool load) {
  ::bpf_program__set_autoload(::bpf_object__find_program_by_name(object, std::string(name).c_str()), load);
}

/// The programs that know the owner maps of left sets, too.
void set_moving_autoload(bpf_object* object, bool load) {
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) {
    if (std::string_view(::bpf_program__name(program)).starts_with("mesh_mv_")) {
      ::bpf_program__set_autoload(program, load);
    }
  }
}

}  // namespace

base::Result<Programs> Programs::open_some(ProgramImage image, const KernelFeatures& features,
                                           std::span<const std::string_view> wanted) {
  Programs programs = MESH_TRY(open_as(image, kTrialSizes, features));
  bpf_object* object = programs.object_.get();
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) {
    const bool load = std::ranges::find(wanted, std::string_view(::bpf_program__name(program))) != wanted.end();
    ::bpf_program__set_autoload(program, load);
  }
  MESH_CHECK(programs.load());
  return programs;
}

KernelFeatures probe_kernel_features(ProgramImage image) {
  ::libbpf_set_print(keep_log);
  KernelFeatures features;
  features.retval = has_helper(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_FUNC_set_retval);
  features.mptcp = has_helper(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_FUNC_skc_to_mptcp_sock) &&
                   ::access("/proc/sys/net/mptcp", F_OK) == 0;  // the helper has no type to return without CONFIG_MPTCP
  const KernelTypes kernel(::btf__load_vmlinux_btf());
  features.kernel_context =
      has_kernel_function(kernel, "bpf_cast_to_kern_ctx") && has_kernel_function(kernel, "bpf_rdonly_cast");
  features.kernel_read = has_helper(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_FUNC_probe_read_kernel) &&
                         has_helper(BPF_PROG_TYPE_CGROUP_SOCK, BPF_FUNC_probe_read_kernel);
  features.tracing =
      std::ranges::all_of(kTracers, [&](const Tracer& tracer) { return has_tracepoint(kernel, tracer.tracepoint); });
  features.kill = has_kernel_function(kernel, "bpf_sock_destroy") && has_kernel_function(kernel, "bpf_iter_tcp") &&
                  has_kernel_function(kernel, "bpf_iter_udp");
  features.census = has_kernel_function(kernel, "bpf_iter_tcp") && has_kernel_function(kernel, "bpf_iter_udp") &&
                    has_kernel_function(kernel, "bpf_iter_task_file") &&
                    has_kernel_function(kernel, "bpf_sock_from_file");
  features.guard = has_field(kernel, "bpf_sk_lookup_kern", "ingress_ifindex");
  features.explain = ::libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_SYSCALL, nullptr) == 1;
  const std::vector<Optional> optional = optional_programs();
  std::vector<std::string_view> wanted;
  for (const Optional& some : optional) {
    if (features.*some.has) wanted.insert(wanted.end(), some.programs.begin(), some.programs.end());
  }
  // All at once, because each load has libbpf read the kernel's types; one by one to see whom it does not take.
  if (Programs::open_some(image, features, wanted)) return features;
  for (const Optional& some : optional) {
    for (const std::string_view program : some.programs) {
      if (!(features.*some.has)) break;
      if (const auto loaded = Programs::open_some(image, features, {{program}}); !loaded) {
        features.*some.has = false;
        features.refused.push_back({std::string(some.feature), loaded.error().to_string()});
      }
    }
  }
  return features;
}

void Programs::Close::operator()(bpf_object* object) const { ::bpf_object__close(object); }

base::Result<Programs> Programs::open(ProgramImage image, const TableSizes& sizes) {
  return open_as(image, sizes, probe_kernel_features(image));
}

base::Result<Programs> Programs::open_as(ProgramImage image, const TableSizes& sizes, KernelFeatures features) {
  ::libbpf_set_print(keep_log);
  load_log.clear();
  Programs programs;
  bpf_object_open_opts options{};
  options.sz = sizeof(options);
  options.object_name = "meshd";
  programs.object_.reset(::bpf_object__open_mem(image.data(), image.size(), &options));
  if (!programs.object_) return base::fail_errno(errno, "read the BPF image: " + last_words());
  bpf_object* object = programs.object_.get();

  std::size_t size = 0;
  bpf_map* config_map = find_config(object);
  const void* initial = config_map != nullptr ? ::bpf_map__initial_value(config_map, &size) : nullptr;
  if (initial == nullptr || size != sizeof(mesh_config)) {
    return base::fail(base::ErrorKind::kInvalid, "read the BPF image: it has no configuration of this build's shape");
  }
  std::memcpy(&programs.config_, initial, sizeof(mesh_config));
  programs.config_.live_shard_mask = sizes.live_shards - 1;
  programs.config_.owner_mask = sizes.owners - 1;
  programs.config_.has_retval = features.retval;
  programs.config_.has_mptcp = features.mptcp;
  programs.config_.has_kernel_context = features.kernel_context;
  programs.config_.has_kernel_read = features.kernel_read;
  MESH_CHECK(programs.write_config());

  for (std::size_t i = 0; i < kTableCount; ++i) {
    const Table table = table_at(i);
    bpf_map* one = find_map(object, to_string(table));
    if (one == nullptr) return base::fail(base::ErrorKind::kInvalid, failed("find map", to_string(table)));
    const std::uint32_t entries = entries_of(table, sizes);
    if (entries != 0 && ::bpf_map__set_max_entries(one, entries) != 0) {
      return base::fail_errno(errno, failed("set the size of map", to_string(table)));
    }
  }
  for (const char* previous : {"owner_prev_a", "owner_prev_b"}) {
    ::bpf_map__set_autocreate(find_map(object, previous), false);
  }
  set_moving_autoload(object, false);
  ::bpf_map__set_autocreate(find_map(object, "doomed"), features.kill);
  for (const char* map : {"guarded", "guard_counts"}) ::bpf_map__set_autocreate(find_map(object, map), features.guard);
  for (const Optional& some : optional_programs()) {
    for (const std::string_view program : some.programs) set_autoload(object, program, features.*some.has);
  }
  programs.features_ = std::move(features);
  return programs;
}

MapShape Programs::shape(Table table) const {
  const bpf_map* map = find_map(object_.get(), to_string(table));
  return {static_cast<std::uint32_t>(::bpf_map__type(map)), ::bpf_map__key_size(map), ::bpf_map__value_size(map),
          ::bpf_map__max_entries(map), ::bpf_map__map_flags(map)};
}

base::Result<void> Programs::reuse(Table table, int fd) {
  if (::bpf_map__reuse_fd(find_map(object_.get(), to_string(table)), fd) == 0) return {};
  return base::fail_errno(errno, failed("take over map", to_string(table)));
}

base::Result<void> Programs::write_config() {
  if (::bpf_map__set_initial_value(find_config(object_.get()), &config_, sizeof(config_)) == 0) return {};
  return base::fail_errno(errno, failed("set", "the configuration"));
}

base::Result<void> Programs::with_previous_owners(const std::vector<const MapSet*>& left) {
  MESH_ASSERT(!left.empty() && left.size() <= 2);
  const auto attach = [&](const char* name, const MapSet& set) -> base::Result<std::uint32_t> {
    bpf_map* map = find_map(object_.get(), name);
    ::bpf_map__set_autocreate(map, true);
    if (::bpf_map__reuse_fd(map, set.fd(Table::kOwner)) != 0) {
      return base::fail_errno(errno, failed("take over map", name));
    }
    return set.shape(Table::kOwner).max_entries - 1;
  };
  config_.owner_prev_mask_a = MESH_TRY(attach("owner_prev_a", *left.front()));
  config_.owner_prev_mask_b = MESH_TRY(attach("owner_prev_b", *left.back()));
  MESH_CHECK(write_config());
  set_moving_autoload(object_.get(), true);
  return {};
}

base::Result<void> Programs::load() {
  load_log.clear();
  if (::bpf_object__load(object_.get()) == 0) return {};
  const int errnum = errno;
  return base::fail_errno(errnum, "load the BPF programs: " + last_words(),
                          errnum == EPERM ? "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN"
                                          : "`meshctl check` says what this kernel lacks");
}

int Programs::program_fd(std::string_view name) const {
  const bpf_program* program = ::bpf_object__find_program_by_name(object_.get(), std::string(name).c_str());
  return program == nullptr ? -1 : ::bpf_program__fd(program);
}

int Programs::map_fd(std::string_view name) const {
  const bpf_map* map = find_map(object_.get(), name);
  return map == nullptr ? -1 : ::bpf_map__fd(map);
}

}  // namespace mesh::datapath
