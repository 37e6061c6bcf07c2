// SPDX-License-Identifier: Apache-2.0
// The slow look at the kernel, on a thread of its own: attaches what is not attached, asks which programs are
// effective and whether anything runs where they are, counts what the hash maps hold, forgets sessions that are over,
// and writes the last good state to disk. What it saw is published as one immutable value with the time of the look.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.hpp"
#include "datapath/loader.hpp"

namespace mesh::app {

/// Whether anything runs in an attached cgroup.
struct CgroupUse {
  std::string cgroup;
  std::optional<bool> populated;  ///< Nothing: the cgroup is not there.
  base::WallTime since{};         ///< First seen so.
};

struct Housekept {
  base::WallTime looked_at{};
  std::vector<datapath::HookStatus> hooks;
  std::vector<CgroupUse> cgroups;
  std::uint64_t frontends = 0;  ///< Counted elements of the hash maps.
  std::uint64_t owners = 0;
  std::uint64_t affinities = 0;
  base::WallTime counted_at{};
  std::optional<base::Error> error;  ///< Of the last attach.
};
using HousekeptPtr = std::shared_ptr<const Housekept>;

class Housekeeper {
 public:
  struct Options {
    std::string own_cgroup;  ///< The agent's own leaf as a folder: no application.
    base::Duration interval = std::chrono::seconds(1);
    base::Duration count_interval = std::chrono::seconds(3);  ///< Between counts of the hash maps.
  };
  /// Both run on the housekeeper's thread. `chore` is for what else has to be done slowly, once per interval.
  using Chore = std::function<void()>;
  using Looked = std::function<void(HousekeptPtr)>;

  Housekeeper(Options options, datapath::Datapath& datapath, Chore chore, Looked looked);
  ~Housekeeper();
  void start();
  void stop();

 private:
  void run();
  void look();
  void look_at_cgroups(base::WallTime now);

  const Options options_;
  datapath::Datapath& datapath_;
  const Chore chore_;
  const Looked looked_;
  Housekept state_;
  base::TimePoint count_at_{};
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace mesh::app
