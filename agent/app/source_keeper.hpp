// SPDX-License-Identifier: Apache-2.0
// The registries of the configuration as running sources: made, changed and removed by a reload, one by one, so that a
// change to one disturbs no other.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "app/reconciler.hpp"
#include "discovery/file.hpp"
#include "discovery/registry_source.hpp"
#include "discovery/source_keys.hpp"
#include "discovery/vip_pool.hpp"

namespace mesh::app {

/// The source of what stands in the configuration and in files.
inline constexpr std::string_view kFileSource = "file";

class SourceKeeper {
 public:
  struct Options {
    model::Place here;
    std::uint64_t seed = 0;  ///< Of this node.
    /// How long a source of the first configuration may keep quiet: see discovery::SourceBook.
    std::chrono::milliseconds first_answer_wait{0};
    std::vector<Reconciler::Precedence> before;  ///< Sources of the agent itself, which precede ...
    std::vector<Reconciler::Precedence> after;   ///< ... and which come last.
  };
  /// What each source said last time is taken from `restored` when it is made.
  SourceKeeper(Options options, discovery::VipPool& addresses, discovery::Restored restored);
  ~SourceKeeper();

  /// The precedence of `sources`, for the reconciler.
  [[nodiscard]] std::vector<Reconciler::Precedence> precedence(const std::vector<discovery::SourceSpec>& sources) const;

  /// Makes what is new, changes what differs, removes what is not named, and tells the reconciler. Does not wait for
  /// clients that have to end: look() does.
  void configure(const std::vector<discovery::SourceSpec>& sources, Reconciler& reconciler);
  /// Once a second, from a thread that may wait for a second.
  void look();
  /// As they are now: fresher than what a snapshot says. For any thread.
  [[nodiscard]] std::vector<model::SourceStatus> statuses() const;
  void stop();

 private:
  struct Running {
    std::string fingerprint;
    std::shared_ptr<discovery::RegistrySource> source;
  };
  std::shared_ptr<discovery::RegistrySource> make(const discovery::SourceSpec& spec) const;
  [[nodiscard]] std::unique_ptr<discovery::Registry> make_client(const discovery::SourceSpec& spec,
                                                                 std::vector<model::ServicePtr> known) const;

  const Options options_;
  discovery::VipPool& addresses_;
  const discovery::Restored restored_;
  mutable std::mutex mutex_;  ///< Guards all below.
  std::map<std::string, Running> running_;
  std::vector<std::shared_ptr<discovery::RegistrySource>> ending_;
};

}  // namespace mesh::app
