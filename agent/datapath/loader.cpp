// SPDX-License-Identifier: Apache-2.0
#include "datapath/loader.hpp"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <linux/membarrier.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <thread>
#include <type_traits>

#include "datapath/migrate.hpp"
#include "datapath/own_cgroup.hpp"
#include "datapath/tracers.hpp"
#include "mesh_explain.h"

namespace mesh::datapath {
namespace {

constexpr std::uint32_t kOwnersMax = 1U << 26;  // as in the configuration
constexpr std::uint32_t kEventsMax = 1U << 30;

/// Returns when no BPF program that ran at the call still runs.
void wait_for_running_programs() {
  if (::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0) return;
  // Not built in, or nohz_full: a program in a hook runs for microseconds, with preemption milliseconds.
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
}

/// The programs take the low bits of a number as an index, and the kernel wants it so of a ring.
base::Result<void> check_power_of_two(std::string_view limit, std::uint32_t value, std::uint32_t low,
                                      std::uint32_t high) {
  if (std::has_single_bit(value) && value >= low && value <= high) return {};
  return base::fail(base::ErrorKind::kInvalid,
                    "set agent.limits." + std::string(limit) + " to " + std::to_string(value) +
                        ": not a power of two from " + std::to_string(low) + " to " + std::to_string(high),
                    "use " + std::to_string(std::bit_ceil(std::clamp(value, low, high))));
}

bool same_shape(const MapSet& set, const Programs& programs) {
  for (std::size_t i = 0; i < kTableCount; ++i) {
    if (set.shape(table_at(i)) != programs.shape(table_at(i))) return false;
  }
  return true;
}

base::Result<void> check_layout(const MapSet& set, const std::string& folder) {
  const mesh_control& control = set.control();
  if (control.magic != MESH_LAYOUT_MAGIC) {
    return base::fail(base::ErrorKind::kUnsupported, "adopt the maps in " + folder + ": they are not a mesh's",
                      "run `meshd detach` to remove them, or set agent.bpffs to another directory");
  }
  if (control.layout_major == MESH_LAYOUT_MAJOR) return {};
  return base::fail(base::ErrorKind::kUnsupported,
                    "adopt the maps in " + folder + ": they have layout " + std::to_string(control.layout_major) + "." +
                        std::to_string(control.layout_minor) + " and this build has layout " +
                        std::to_string(MESH_LAYOUT_MAJOR) + ", which can't be migrated",
                    "run the build that made them (" + std::string(control.version) +
                        "), or `meshd detach`, which ends the mesh until the next start");
}

std::vector<std::uint32_t> control_ids(const std::vector<NumberedSet>& sets) {
  std::vector<std::uint32_t> ids;
  for (const NumberedSet& set : sets) ids.push_back(set.maps.id(Table::kControl));
  return ids;
}

template <std::size_t kSize>
void copy_text(char (&to)[kSize], std::string_view from) {
  const std::size_t length = from.copy(to, kSize - 1);
  std::memset(to + length, 0, kSize - length);
}

template <typename T>
void store_field(T& field, std::type_identity_t<T> value) {
  std::atomic_ref(field).store(value, std::memory_order_release);
}

}  // namespace

std::string_view to_string(StartKind kind) {
  switch (kind) {
    case StartKind::kFresh:
      return "fresh";
    case StartKind::kAdopted:
      return "adopted";
    case StartKind::kMigrated:
      return "migrated";
  }
  return "?";
}

Datapath::Datapath(DatapathOptions options, PinDirectory directory)
    : options_(std::move(options)), directory_(std::move(directory)) {}

Datapath::~Datapath() = default;

base::Result<std::unique_ptr<Datapath>> Datapath::open(DatapathOptions options) {
  const TableSizes& sizes = options.sizes;
  MESH_CHECK(check_power_of_two("live_shards", sizes.live_shards, 1, MESH_LIVE_SHARDS_MAX));
  MESH_CHECK(check_power_of_two("owners", sizes.owners, MESH_OWNER_WAYS, kOwnersMax));
  MESH_CHECK(check_power_of_two("events", sizes.events, static_cast<std::uint32_t>(::getpagesize()), kEventsMax));
  if (options.cgroup_root.empty()) options.cgroup_root = MESH_TRY(find_cgroup2_mount());
  options.cgroups = collapse_cgroups(options.cgroups);
  PinDirectory directory = MESH_TRY(PinDirectory::lock(options.directory));
  std::unique_ptr<Datapath> datapath(new Datapath(std::move(options), std::move(directory)));
  if (auto started = datapath->start(); !started) {
    ::rmdir(datapath->directory_.path().c_str());  // goes only if nothing is pinned there
    return std::unexpected(std::move(started).error());
  }
  return datapath;
}

base::Result<void> Datapath::step(const std::string& name) const {
  return options_.before_step ? options_.before_step(name) : base::Result<void>{};
}

base::Result<void> Datapath::start() {
  MESH_CHECK(directory_.remove_debris());
  std::vector<NumberedSet> sets;
  for (const unsigned number : directory_.sets()) {
    const std::string folder = directory_.set_folder(number);
    sets.push_back({number, MESH_TRY(MapSet::open_pinned(folder, Access::kWrite))});
    MESH_CHECK(check_layout(sets.back().maps, folder));
  }
  MESH_CHECK(refuse_foreign_mesh(directory_.links_folder(), options_.cgroup_root, options_.cgroups, control_ids(sets)));
  programs_ = MESH_TRY(Programs::open(options_.image, options_.sizes));

  // The set in force if it has this build's shape; else one of this shape that an interrupted migration left; else a
  // new one. All the others are left.
  const std::optional<unsigned> current = directory_.current();
  const auto in_force = current ? std::ranges::find(sets, *current, &NumberedSet::number) : sets.end();
  auto target = in_force;
  if (in_force == sets.end()) {
    start_kind_ = StartKind::kFresh;
  } else if (same_shape(in_force->maps, *programs_)) {
    start_kind_ = StartKind::kAdopted;
  } else {
    start_kind_ = StartKind::kMigrated;
    MESH_CHECK(check_fits(in_force->maps, options_.sizes));
    target = std::ranges::find_if(sets, [&](const NumberedSet& set) { return same_shape(set.maps, *programs_); });
  }
  const MapSet* source = start_kind_ == StartKind::kMigrated ? &in_force->maps : nullptr;
  if (target == sets.end()) {
    const unsigned number = sets.empty() ? 1 : sets.back().number + 1;
    MESH_CHECK(load_programs(nullptr, source, sets));
    maps_ = MESH_TRY(MapSet::from_object(programs_->object()));
    if (source != nullptr) MESH_CHECK(copy_tables(*source, maps_));
    describe_control();
    MESH_CHECK(pin_new_set(number));
    return attach_and_switch(number, sets);
  }
  if (source != nullptr) MESH_CHECK(copy_tables(*source, target->maps));
  const unsigned number = target->number;
  maps_ = std::move(target->maps);
  sets.erase(target);
  describe_control();
  MESH_CHECK(load_programs(&maps_, nullptr, sets));
  return attach_and_switch(number, sets);
}

/// Loads the programs on the maps of `on`; or on new ones, sharing those of `share_with` that need not change.
base::Result<void> Datapath::load_programs(const MapSet* on, const MapSet* share_with,
                                           const std::vector<NumberedSet>& left) {
  std::uint32_t owner_id = 0;
  for (std::size_t i = 0; i < kTableCount; ++i) {
    const Table table = table_at(i);
    const MapSet* from = on;
    if (from == nullptr && share_with != nullptr && share_with->shape(table) == programs_->shape(table)) {
      from = share_with;
    }
    if (from == nullptr) continue;
    MESH_CHECK(programs_->reuse(table, from->fd(table)));
    if (table == Table::kOwner) owner_id = from->id(table);
  }
  std::vector<const MapSet*> previous;
  for (const NumberedSet& set : left) {
    if (set.maps.id(Table::kOwner) != owner_id) previous.push_back(&set.maps);
  }
  if (previous.size() > 2) {
    return base::fail(base::ErrorKind::kConflict,
                      "adopt the maps in " + options_.directory + ": more than two migrations were interrupted there",
                      "start the build that ran last once more");
  }
  if (!previous.empty()) MESH_CHECK(programs_->with_previous_owners(previous));
  MESH_CHECK(programs_->load());
  features_ = programs_->features();
  return {};
}

base::Result<void> Datapath::pin_new_set(unsigned number) {
  MESH_CHECK(step("pin maps"));
  MESH_CHECK(directory_.make_new_set(number));
  for (std::size_t i = 0; i < kTableCount; ++i) {
    const std::string path = directory_.new_set_folder(number) + "/" + std::string(to_string(table_at(i)));
    if (::bpf_obj_pin(maps_.fd(table_at(i)), path.c_str()) != 0) return base::fail_errno(errno, "pin " + path);
  }
  MESH_CHECK(step("finish maps"));
  return directory_.finish_new_set(number);
}

/// Puts the loaded programs on all cgroups, moves the owner records of the sets that are left, and makes `number` the
/// set in force. Killed anywhere in here, the links that were updated and those that were not work on equal tables, and
/// the sets that tell where owner records are stay until they were merged.
base::Result<void> Datapath::attach_and_switch(unsigned number, const std::vector<NumberedSet>& left) {
  ::mkdir(directory_.links_folder().c_str(), 0700);
  if (start_kind_ == StartKind::kFresh) MESH_CHECK(directory_.set_current(number));
  const bool moving = programs_->program_fd("mesh_mv_release") >= 0;
  std::vector<OwnerMerge> merges;
  for (const NumberedSet& set : left) merges.emplace_back(set.maps, maps_);
  MESH_CHECK(attach_tracers());
  if (moving) {
    MESH_CHECK(attach(Phase::kMoving));
    // An old release program that is still running knows only the left map: it would leave the copy of a record behind,
    // for good if this start were killed before the second pass.
    wait_for_running_programs();
    for (OwnerMerge& merge : merges) MESH_CHECK(merge.first_pass());
    MESH_CHECK(attach(Phase::kWriters));
  } else {
    MESH_CHECK(attach(Phase::kAll));
  }
  MESH_CHECK(step("detach others"));
  std::vector<std::uint64_t> served;
  for (const std::string& path : options_.cgroups) {
    if (const auto cgroup = open_cgroup(options_.cgroup_root, path)) served.push_back(cgroup->id);
  }
  MESH_CHECK(detach_others(directory_.links_folder(), served));
  if (moving) {
    wait_for_running_programs();
    for (OwnerMerge& merge : merges) MESH_CHECK(merge.second_pass());
  }
  MESH_CHECK(step("flip current"));
  MESH_CHECK(directory_.set_current(number));
  for (const NumberedSet& set : left) {
    MESH_CHECK(step("remove left maps"));
    MESH_CHECK(directory_.remove_set(set.number));
  }
  // Last: as long as a left set is there, a restart would merge it, and closed sockets must be gone from it.
  if (moving) MESH_CHECK(attach(Phase::kSettled));
  MESH_CHECK(settle_tracers(directory_.links_folder()));
  store_ = std::make_unique<BpfMapStore>(maps_);
  return {};
}

/// Puts the programs of one phase on every cgroup that exists; reattach() finds the others when they do.
base::Result<void> Datapath::attach(Phase phase) {
  for (const std::string& path : options_.cgroups) {
    const auto cgroup = open_cgroup(options_.cgroup_root, path);
    if (!cgroup) continue;
    for (std::size_t i = 0; i < kHooks.size(); ++i) {
      const Hook& hook = kHooks[i];
      const bool writes = hook.moving.empty();
      if ((phase == Phase::kWriters && !writes) || (phase != Phase::kWriters && phase != Phase::kAll && writes))
        continue;
      const int program = programs_->program_fd(phase == Phase::kMoving ? hook.moving : hook.program);
      MESH_CHECK(attach_hook(directory_.links_folder(), *cgroup, i, program, step_before_link()));
    }
  }
  return {};
}

base::Result<void> Datapath::attach_tracers() {
  for (const Tracer& tracer : kTracers) {
    const int program = programs_->program_fd(tracer.program);
    if (program < 0) continue;
    MESH_CHECK(step("watch " + std::string(tracer.tracepoint)));
    if (const auto attached = attach_tracer(directory_.links_folder(), tracer, program); !attached) {
      features_.tracing = false;
      features_.refused.push_back({"tracing", attached.error().to_string()});
    }
  }
  return {};
}

BeforeLink Datapath::step_before_link() const {
  return [this](const std::string& pin) { return step("update link " + pin); };
}

void Datapath::describe_control() {
  mesh_control& control = maps_.control();
  control.layout_major = programs_->config().layout_major;
  control.layout_minor = programs_->config().layout_minor;
  store_field(control.exempt_cgroup_id, options_.exempt_cgroup_id);
  store_field(control.agent_start_wall_ns, static_cast<std::uint64_t>(base::wall_now().time_since_epoch().count()));
  store_field(control.agent_pid, static_cast<std::uint32_t>(::getpid()));
  copy_text(control.holder, options_.directory);
  copy_text(control.version, options_.version);
  store_field(control.magic, MESH_LAYOUT_MAGIC);
}

/// A link that somebody removed, or put another in place of.
base::Result<unsigned> Datapath::reattach_tracers() {
  if (!features_.tracing) return 0U;
  std::array<std::uint32_t, kTracers.size()> ids{};
  for (std::size_t i = 0; i < kTracers.size(); ++i) {
    bpf_prog_info info{};
    std::uint32_t length = sizeof(info);
    if (::bpf_obj_get_info_by_fd(programs_->program_fd(kTracers[i].program), &info, &length) != 0) {
      return base::fail_errno(errno, "read a BPF program");
    }
    ids[i] = info.id;
    // What is in its place may be another tracer's link, and older kernels (6.1) attach no program twice.
    const std::uint32_t there = tracer_program(directory_.links_folder(), kTracers[i]);
    if (there != 0 && there != info.id) MESH_CHECK(remove_tracer(directory_.links_folder(), kTracers[i]));
  }
  unsigned made = 0;
  for (std::size_t i = 0; i < kTracers.size(); ++i) {
    if (tracer_program(directory_.links_folder(), kTracers[i]) == ids[i]) continue;
    MESH_CHECK(attach_tracer(directory_.links_folder(), kTracers[i], programs_->program_fd(kTracers[i].program)));
    MESH_CHECK(settle_tracers(directory_.links_folder()));  // each alone: if the next one fails, this one is done
    ++made;
  }
  return made;
}

base::Result<unsigned> Datapath::reattach() {
  const std::vector<PinnedLink> links = read_pinned_links(directory_.links_folder());
  unsigned made = 0;
  for (const std::string& path : options_.cgroups) {
    const auto cgroup = open_cgroup(options_.cgroup_root, path);
    if (!cgroup) continue;
    for (std::size_t hook = 0; hook < kHooks.size(); ++hook) {
      const bool there = std::ranges::any_of(links, [&](const PinnedLink& link) {
        return link.live && link.hook == hook && link.cgroup_id == cgroup->id;
      });
      if (there) continue;
      MESH_CHECK(
          attach_hook(directory_.links_folder(), *cgroup, hook, programs_->program_fd(kHooks[hook].program), {}));
      ++made;
    }
  }
  for (const PinnedLink& link : links) {
    if (!link.live) ::unlink(link.path.c_str());  // its cgroup is gone
  }
  return made + MESH_TRY(reattach_tracers());
}

std::vector<HookStatus> Datapath::hooks() const {
  auto status = hook_status(directory_.links_folder(), options_.cgroup_root, options_.cgroups);
  if (features_.tracing) std::ranges::move(tracer_status(directory_.links_folder()), std::back_inserter(status));
  return status;
}

void Datapath::record_applied(std::uint64_t generation, base::WallTime when) {
  mesh_control& control = maps_.control();
  store_field(control.applied_wall_ns, static_cast<std::uint64_t>(when.time_since_epoch().count()));
  store_field(control.generation, generation);
}

void Datapath::exempt_relay(std::uint64_t cgroup_id) {
  store_field(maps_.control().exempt_relay_cgroup, static_cast<std::uint32_t>(cgroup_id));
}

void Datapath::pause_all(std::uint64_t until_ns) { store_field(maps_.control().pass_until_ns, until_ns); }

void Datapath::pause_service(std::uint32_t service_id, std::uint64_t until_ns) {
  auto* service = reinterpret_cast<mesh_service*>(maps_.element(Table::kServices, service_id));
  store_field(service->pass_until_ns, until_ns);
}

base::Result<Explanation> Datapath::explain(const mesh_frontend_key& frontend, const ExplainClient& client) const {
  const int program = programs_->program_fd("mesh_explain_pick");
  if (program < 0) {
    return base::fail(base::ErrorKind::kUnsupported, "run the pick for explain: this kernel has no syscall programs",
                      "use Linux 5.14 or newer");
  }
  mesh_explain question{};
  question.frontend = frontend;
  question.uid = client.uid;
  question.netns_cookie = client.netns_cookie;
  question.cgroup_id = client.cgroup_id;
  if (!client.source.is_unspecified()) {
    std::ranges::copy(client.source.bytes, question.source_addr);
  }
  bpf_test_run_opts run{};
  run.sz = sizeof(run);
  run.ctx_in = &question;  // a syscall program's context is copied back to where it came from; ctx_out is refused
  run.ctx_size_in = sizeof(question);
  if (::bpf_prog_test_run_opts(program, &run) != 0) return base::fail_errno(errno, "run the pick for explain");
  Explanation answer;
  answer.service_id = question.service_id;
  answer.range_id = question.range_id;
  answer.backend_id = question.backend_id;
  answer.backend_generation = question.backend_generation;
  std::ranges::copy(question.backend_addr, answer.backend.ip.bytes.begin());
  answer.backend.port = ntohs(question.backend_port_be);
  answer.algorithm = question.algorithm;
  answer.hash_key = question.hash_key;
  answer.reason = question.reason;
  answer.by_affinity = question.by_affinity != 0;
  std::ranges::copy(question.compared, answer.compared.begin());
  return answer;
}

base::Result<Killer> Datapath::make_killer() const {
  if (!features_.kill) return Killer(maps_);
  return Killer::with_iterators(maps_, {.tcp = programs_->program_fd("mesh_kill_tcp"),
                                        .udp = programs_->program_fd("mesh_kill_udp"),
                                        .doomed = programs_->map_fd("doomed")});
}

base::Result<Census> Datapath::make_census() const {
  if (!features_.census) {
    return base::fail(base::ErrorKind::kUnsupported, "look for the sockets of owner records: no programs for it",
                      "`meshctl check` says why");
  }
  return Census::make({.tcp = programs_->program_fd("mesh_meet_tcp"),
                       .udp = programs_->program_fd("mesh_meet_udp"),
                       .files = programs_->program_fd("mesh_meet_files")});
}

base::Result<Guard> Datapath::make_guard() const {
  if (!features_.guard) {
    return base::fail(base::ErrorKind::kUnsupported, "see plaintext to workloads of the mesh: no program for it",
                      "`meshctl check` says why");
  }
  return Guard({.guard = programs_->program_fd("mesh_guard"),
                .guarded = programs_->map_fd("guarded"),
                .counts = programs_->map_fd("guard_counts")},
               directory_.links_folder() + "/guard");
}

base::Result<void> Datapath::detach() {
  MESH_CHECK(detach_others(directory_.links_folder(), {}));
  return directory_.remove_all();
}

base::Result<void> detach_all(const std::string& directory) {
  const PinDirectory pins = MESH_TRY(PinDirectory::lock_existing(directory));
  MESH_CHECK(detach_others(pins.links_folder(), {}));
  return pins.remove_all();
}

base::Result<MapSet> open_pinned_maps(const std::string& directory, Access access) {
  // The set may be replaced between the two steps by a migration: look again once.
  auto set = MapSet::open_pinned(MESH_TRY(current_set_folder(directory)), access);
  if (!set) set = MapSet::open_pinned(MESH_TRY(current_set_folder(directory)), access);
  return set;
}

}  // namespace mesh::datapath
