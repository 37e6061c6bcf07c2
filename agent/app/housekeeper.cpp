// SPDX-License-Identifier: Apache-2.0
#include "app/housekeeper.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "datapath/occupancy.hpp"
#include "datapath/owners.hpp"

namespace mesh::app {
namespace {

constexpr base::log::Logger kLog{"housekeeper"};

std::uint64_t count(const datapath::MapSet& maps, datapath::Table table, std::uint64_t before) {
  const auto counted = datapath::count_elements(maps.fd(table), maps.shape(table));
  if (counted) return *counted;
  kLog.warn("map not counted", {{"map", datapath::to_string(table)}, {"err", counted.error()}});
  return before;
}

}  // namespace

Housekeeper::Housekeeper(Options options, datapath::Datapath& datapath, Chore chore, Looked looked)
    : options_(std::move(options)), datapath_(datapath), chore_(std::move(chore)), looked_(std::move(looked)) {}

Housekeeper::~Housekeeper() { stop(); }

void Housekeeper::start() {
  thread_ = std::thread([this] { run(); });
}

void Housekeeper::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Housekeeper::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    look();
    chore_();
    lock.lock();
    wake_.wait_for(lock, options_.interval, [this] { return stopping_; });
  }
}

void Housekeeper::look() {
  const auto attached = datapath_.reattach();
  if (!attached) {
    kLog.warn("hooks not attached", {{"err", attached.error()}});
    state_.error = attached.error();
  } else {
    state_.error.reset();
    if (*attached > 0) kLog.info("hooks attached", {{"links", *attached}});
  }
  state_.hooks = datapath_.hooks();
  look_at_cgroups(base::wall_now());
  const base::TimePoint now = base::steady_now();
  if (now >= count_at_) {
    count_at_ = now + options_.count_interval;
    const datapath::MapSet& maps = datapath_.maps();
    state_.frontends = count(maps, datapath::Table::kFrontends, state_.frontends);
    state_.owners = datapath::count_owners(maps).value_or(state_.owners);
    state_.affinities = count(maps, datapath::Table::kAffinity, state_.affinities);
    state_.counted_at = base::wall_now();
  }
  state_.looked_at = base::wall_now();
  looked_(std::make_shared<const Housekept>(state_));
}

void Housekeeper::look_at_cgroups(base::WallTime now) {
  for (const std::string& cgroup : datapath_.cgroups()) {
    auto use = std::ranges::find(state_.cgroups, cgroup, &CgroupUse::cgroup);
    if (use == state_.cgroups.end())
      use = state_.cgroups.insert(use, {.cgroup = cgroup, .populated = {}, .since = now});
    const auto populated = datapath::runs_anything(datapath_.cgroup_root() + cgroup, options_.own_cgroup);
    if (populated == use->populated) continue;
    use->populated = populated;
    use->since = now;
    if (populated == false) kLog.info("nothing runs in an attached cgroup", {{"cgroup", cgroup}});
  }
}

}  // namespace mesh::app
