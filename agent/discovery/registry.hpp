// SPDX-License-Identifier: Apache-2.0
// What a client of a registry (DNS, Kubernetes, Consul, ...) is to the agent: straight-line code on a thread of its own
// that says, again and again, all it knows.
//
// RegistrySource (registry_source.hpp) owns the thread and everything that is the same for all registries: states,
// back-off, keeping what is known while the registry is away, pointers of services that did not change. A client knows
// its protocol, and waits for nothing without a deadline and without feed.wake_fd().
#pragma once

#include <chrono>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "model/refusal.hpp"
#include "model/service.hpp"

namespace mesh::discovery {

class Feed {
 public:
  virtual ~Feed() = default;

  /// All services of the registry that the configuration wants, none null, replacing those of the last call; endpoints
  /// in any order. A service whose frontend has no IP address (0.0.0.0 or ::) gets one from the agent's range, by its
  /// name. The source is synced from now on. An empty list is honoured: the registry answered.
  /// A pointer that was in the last call says that nothing changed about this service and costs next to nothing, less
  /// still where services keep their order.
  virtual void publish(std::vector<model::ServicePtr> services) = 0;
  /// These instead of those of the same frontend and name that were said before; all others are as they were. Costs
  /// what changed. Each must have been said before.
  virtual void exchange(std::vector<model::ServicePtr> services) = 0;
  /// The registry answered, and nothing changed: what was published is as fresh as this.
  virtual void confirm() = 0;
  /// A trouble that doesn't end the run: counted and shown, and the source is stale until the next publish() or
  /// confirm().
  virtual void report(base::Error error) = 0;
  /// The registry was told that an answer of it is not taken over; what is wrong with it is report()ed beside this.
  virtual void refused(model::Refusal refusal) = 0;

  /// The registry asked to be left alone (Retry-After): the next run() comes no sooner.
  virtual void leave_alone_for(std::chrono::milliseconds duration) = 0;

  /// Waits; false: the client has to come to its end now (stop, or a new configuration).
  virtual bool wait(std::chrono::milliseconds duration) = 0;
  [[nodiscard]] virtual bool stopping() const = 0;
  /// Becomes readable when the client has to come to its end: for whoever polls sockets of its own.
  [[nodiscard]] virtual int wake_fd() const = 0;
};

class Registry {
 public:
  virtual ~Registry() = default;

  /// Talks to the registry until it can't any more, or until feed.stopping(). With an error it is called again, on a
  /// fresh state, after a back-off with full jitter; what it published stays in force, stale. It must return within a
  /// second of feed.wake_fd() becoming readable.
  virtual base::Result<void> run(Feed& feed) = 0;
};

/// `services` as publish() wants them. One that equals the service at its place in `before` is that one.
std::vector<model::ServicePtr> share(std::vector<model::Service> services,
                                     const std::vector<model::ServicePtr>& before = {});

/// Whether `now` may be exchanged for `before`: the same frontends and names, in this order.
bool stand_for(const std::vector<model::ServicePtr>& now, const std::vector<model::ServicePtr>& before);

/// When a client may publish: at once after a quiet time. While much changes, changes are put together, so that at most
/// a fifth of the client's time goes into publishing.
class PublishPace {
 public:
  [[nodiscard]] base::TimePoint due() const { return due_; }
  /// Around publishing, on the client's thread: what counts is the time that the thread ran, not that it waited for a
  /// CPU.
  void begin();
  void end();

 private:
  static constexpr int kRest = 4;
  base::TimePoint due_{};
  base::Duration begun_{};
};

}  // namespace mesh::discovery
