// SPDX-License-Identifier: Apache-2.0
// A registry as a source: the thread on which its client runs, again after a back-off when it comes to an end, and the
// book of what it said.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/backoff.hpp"
#include "base/fd.hpp"
#include "base/random.hpp"
#include "discovery/registry.hpp"
#include "discovery/source.hpp"
#include "discovery/source_book.hpp"

namespace mesh::discovery {

class RegistrySource final : public Source {
 public:
  struct Options {
    SourceBook::Options book;
    Restored restored;  ///< Its own services of the last run.
    base::Backoff::Options backoff;
    std::uint64_t seed = 0;
    /// Called before an update that holds new addresses of the range is published: keeps them on disk.
    std::function<base::Result<void>()> keep_addresses;
  };

  RegistrySource(std::unique_ptr<Registry> client, Options options);
  ~RegistrySource() override;

  void start(Publish publish) override;
  /// Returns when the client has: within a second.
  void stop() override;
  /// Tells the client to come to its end, and does not wait for it.
  void ask_to_stop();

  /// Another client takes over, from any thread; what is known stays until it has said something.
  void reconfigure(std::unique_ptr<Registry> client, std::optional<std::chrono::seconds> max_stale,
                   std::vector<MinEndpoints> min_endpoints = {});

  /// To be called about once a second, from any thread: notices what time changes.
  void look();
  [[nodiscard]] model::SourceStatus status() const;
  [[nodiscard]] std::vector<model::ServicePtr> services() const;  ///< The last good ones.

 private:
  class Line;  ///< The client's feed.

  void run();
  void wake();
  void clear_wake();
  /// Runs `change` on the book and publishes if it says so.
  template <typename Change>
  void change_book(const Change& change);

  const Options options_;
  Publish publish_;
  mutable std::mutex mutex_;  ///< Guards all below; publishing happens under it, so that updates stay in order.
  SourceBook book_;
  base::Backoff backoff_;
  base::Random random_;
  std::unique_ptr<Registry> next_client_;
  base::TimePoint touched_at_;
  std::atomic<bool> ending_{false};  ///< The client has to come to its end.
  std::atomic<bool> stopping_{false};
  base::Fd event_;
  std::thread thread_;
};

}  // namespace mesh::discovery
