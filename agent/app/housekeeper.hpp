// SPDX-License-Identifier: Apache-2.0
// The slow look at the kernel, on a thread of its own: attaches what is not attached, asks which programs are
// effective, counts what the hash maps hold, forgets sessions that are over, and writes the last good state to disk.
// What it saw is published as one immutable value with the time of the look.
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

struct Housekept {
  base::WallTime looked_at{};
  std::vector<datapath::HookStatus> hooks;
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
