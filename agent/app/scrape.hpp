// SPDX-License-Identifier: Apache-2.0
// Renders the metrics page off the control loop: with ten thousand services it takes longer than a loop step may. One
// page at a time; requests that come meanwhile share the next one.
#pragma once

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "app/admin_backend.hpp"
#include "io/loop.hpp"
#include "observe/metrics.hpp"

namespace mesh::app {

class Scrape {
 public:
  using Gather = std::function<observe::MetricsInput()>;  ///< On the loop: what only it knows. Quick.
  using Complete = std::function<base::Result<void>(observe::MetricsInput&)>;  ///< On the thread: what is many.

  Scrape(io::Loop& loop, Gather gather, Complete complete)
      : loop_(loop), gather_(std::move(gather)), complete_(std::move(complete)) {}
  ~Scrape();

  void request(Reply<std::string> reply);

 private:
  void start();
  void finish(base::Result<observe::MetricsPage> page);

  io::Loop& loop_;
  const Gather gather_;
  const Complete complete_;
  std::vector<Reply<std::string>> waiting_;
  std::vector<Reply<std::string>> under_way_;
  bool busy_ = false;
  std::uint64_t series_dropped_ = 0;
  std::thread thread_;
};

}  // namespace mesh::app
