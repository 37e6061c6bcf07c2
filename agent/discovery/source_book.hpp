// SPDX-License-Identifier: Apache-2.0
// What the agent holds of one registry, whatever its client does: the last good services, how fresh they are, and what
// of them may be used. Pure: times come in, updates go out.
//
// Nothing is removed because a registry can't be reached (invariant I7). When it has not answered for `max_stale`,
// endpoints are used only while a probe of them succeeds: addresses are given to others in the end. Services without a
// probe get one that connects, a while before, so that on the day nobody is out for want of a result. What is UDP and
// has no probe can't be confirmed by anything: its endpoints are not used then.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "discovery/file.hpp"
#include "discovery/source.hpp"

namespace mesh::discovery {

/// An answer that leaves a service fewer endpoints than this, and fewer than it had, is not believed: those before
/// stay. The first that matches a service's name counts.
struct MinEndpoints {
  static constexpr std::string_view kOne = "service", kMany = "services";

  std::string match;  ///< A name in the mesh, a pattern with * and ?, or "all".
  std::uint32_t count = 1;
  bool operator==(const MinEndpoints&) const = default;
};

class SourceBook {
 public:
  /// An address for a service that has none, by its name; of the family of the frontend.
  using GiveAddress = std::function<base::Result<base::IpAddress>(const std::string& name, bool v4)>;
  struct Options {
    std::string name;
    std::string type;
    std::optional<std::chrono::seconds> max_stale;
    std::vector<MinEndpoints> min_endpoints;
    /// Without anything restored, nothing is said before the first answer for so long: whoever takes over tables of an
    /// earlier agent shall not empty them because a registry is slow.
    std::chrono::milliseconds first_answer_wait{0};
    GiveAddress give_address;
  };
  struct Now {
    base::TimePoint steady;
    base::WallTime wall;
  };
  /// Probes begin so long before `max_stale` is over, or half of it if that is less.
  static constexpr std::chrono::seconds kProbeLead{30};

  /// A registry that has said nothing at all since the start counts as not answering after this.
  static constexpr std::chrono::seconds kFirstTry{10};

  SourceBook(Options options, Restored restored, Now now);

  // What the client says. True: there is something to publish.
  bool publish(std::vector<model::ServicePtr> said, Now now);
  bool exchange(std::vector<model::ServicePtr> said, Now now);
  bool confirm(Now now);
  bool report(base::Error error, Now now);
  void note_refusal(model::Refusal refusal, Now now) { status_.refusals.note(std::move(refusal), now.wall); }
  /// Time has passed.
  bool look(Now now);
  /// Its settings changed; services stay until the registry has answered under the new ones.
  bool set_limits(std::optional<std::chrono::seconds> max_stale, std::vector<MinEndpoints> min_endpoints, Now now);

  /// Null: nothing is to be said yet.
  [[nodiscard]] UpdatePtr update();
  [[nodiscard]] model::SourceStatus status() const;
  [[nodiscard]] const std::vector<model::ServicePtr>& services() const { return services_; }
  /// The names that hold an address of the range.
  void touch_addresses();

 private:
  enum class Trust { kAll, kProbed, kConfirmed };

  bool settle(Now now);  ///< State and trust as they follow from what was said; true: something to publish.
  [[nodiscard]] Trust trust_at(Now now);
  /// A service that the client said, and what became of it.
  struct Taken {
    model::ServicePtr said;
    model::ServicePtr accepted;  ///< As it is in `services_`; null: it can't be used.
    bool whole = false;          ///< Nothing of it was refused.
  };
  class Refusals;
  Taken take(model::ServicePtr said, Refusals& refusals);
  void keep_enough(model::Service& service, Refusals& refusals) const;
  struct Replaced {
    model::ServicePtr old;
    model::ServicePtr* now;  ///< In `taken_`.
  };
  bool replace(const std::vector<Replaced>& replaced, bool& different);
  bool replace_all();
  bool was_told(bool different, std::optional<base::Error> refused, Now now);
  void show();
  model::ServicePtr under_trust(const model::ServicePtr& service);

  Options options_;
  std::vector<model::ServicePtr> services_;  ///< The last good ones, sorted by frontend.
  std::vector<model::ServicePtr> shown_;     ///< As `trust_` lets them be used; none while all may be.
  std::vector<Taken> taken_;                 ///< In the order in which the client said them, unless `in_order_`.
  bool in_order_ = false;                    ///< By frontend and name as the client said them.
  std::size_t endpoints_ = 0;
  model::SourceStatus status_;
  std::optional<base::Error> trouble_;  ///< Of the registry, while it stands.
  std::optional<base::Error> refused_;  ///< What of the last answer can't be used.
  bool answered_ = false;               ///< Since start.
  bool restored_ = false;
  bool speaking_ = false;  ///< There is something to say, if only that there is nothing.
  Trust trust_ = Trust::kAll;
  base::TimePoint started_;
  base::TimePoint good_at_;  ///< When the services were last known to be right.
  std::optional<base::TimePoint> probing_since_;
  std::shared_ptr<const model::ProbePolicy> stand_in_;  ///< For services without a probe.
  std::uint64_t generation_ = 0;
};

}  // namespace mesh::discovery
