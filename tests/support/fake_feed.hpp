// SPDX-License-Identifier: Apache-2.0
// A Feed that keeps what a client of a registry says, for tests of the client. Waits end at once, or when the test says
// stop: a client's schedule is seen in `waits`, not lived through.
#pragma once

#include <poll.h>
#include <sys/eventfd.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string_view>
#include <vector>

#include "base/fd.hpp"
#include "discovery/registry.hpp"

namespace mesh::discovery {

class FakeFeed final : public Feed {
 public:
  enum class Waits {
    kEndAtOnce,      ///< wait() notes its time and returns.
    kTakeTheirTime,  ///< wait() waits, or until stop().
  };
  explicit FakeFeed(Waits waits = Waits::kEndAtOnce)
      : waits_(waits), event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  /// What was said so far. A copy: the client may run on another thread.
  struct Said {
    std::vector<std::vector<model::Service>> published;
    std::size_t confirmed = 0;
    std::vector<base::Error> reported;
    std::vector<model::Refusal> refused;
    std::vector<std::chrono::milliseconds> left_alone;
    std::vector<std::chrono::milliseconds> waits;
    [[nodiscard]] const std::vector<model::Service>& newest() const { return published.back(); }
    /// Of the newest; null: there is none.
    [[nodiscard]] const model::Service* find(std::string_view name) const {
      if (published.empty()) return nullptr;
      for (const model::Service& service : newest()) {
        if (service.name == name) return &service;
      }
      return nullptr;
    }
  };
  [[nodiscard]] Said said() const {
    const std::lock_guard lock(mutex_);
    return said_;
  }
  /// Waits until `condition` holds of what was said; false: it did not within the patience.
  bool wait_until(const std::function<bool(const Said&)>& condition,
                  std::chrono::milliseconds patience = std::chrono::seconds(10)) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, patience, [&] { return condition(said_); });
  }
  /// Called by wait(), after it was noted and before it ends: where a test changes what the registry says next, or
  /// stops the client.
  std::function<void(const Said&)> on_wait;

  void stop() {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(event_.get(), &one, sizeof(one));
  }

  void publish(std::vector<model::ServicePtr> services) override {
    std::vector<model::Service> published;
    published.reserve(services.size());
    for (const model::ServicePtr& service : services) published.push_back(*service);
    note([&] { said_.published.push_back(std::move(published)); });
  }
  void exchange(std::vector<model::ServicePtr> services) override {
    note([&] {
      std::vector<model::Service> published = said_.newest();
      for (const model::ServicePtr& service : services) {
        for (model::Service& old : published) {
          if (old.frontend == service->frontend && old.name == service->name) old = *service;
        }
      }
      said_.published.push_back(std::move(published));
    });
  }
  void confirm() override {
    note([&] { ++said_.confirmed; });
  }
  void report(base::Error error) override {
    note([&] { said_.reported.push_back(std::move(error)); });
  }
  void refused(model::Refusal refusal) override {
    note([&] { said_.refused.push_back(std::move(refusal)); });
  }
  void leave_alone_for(std::chrono::milliseconds duration) override {
    note([&] { said_.left_alone.push_back(duration); });
  }
  bool wait(std::chrono::milliseconds duration) override {
    note([&] { said_.waits.push_back(duration); });
    if (on_wait) on_wait(said());
    if (waits_ == Waits::kEndAtOnce) return !stopping();
    pollfd stop{event_.get(), POLLIN, 0};
    return ::poll(&stop, 1, static_cast<int>(duration.count())) == 0;
  }
  [[nodiscard]] bool stopping() const override {
    pollfd stop{event_.get(), POLLIN, 0};
    return ::poll(&stop, 1, 0) > 0;
  }
  [[nodiscard]] int wake_fd() const override { return event_.get(); }

 private:
  template <typename Put>
  void note(const Put& put) {
    {
      const std::lock_guard lock(mutex_);
      put();
    }
    changed_.notify_all();
  }

  const Waits waits_;
  base::Fd event_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Said said_;
};

}  // namespace mesh::discovery
