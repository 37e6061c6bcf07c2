// SPDX-License-Identifier: Apache-2.0
#include "discovery/registry_source.hpp"

#include <gtest/gtest.h>
#include <poll.h>

#include <condition_variable>
#include <mutex>

namespace mesh::discovery {
namespace {

using namespace std::chrono_literals;

/// What was published, for a test that waits for it.
class Newest {
 public:
  void put(UpdatePtr update) {
    const std::lock_guard lock(mutex_);
    update_ = std::move(update);
    changed_.notify_all();
  }
  bool wait(const std::function<bool(const model::Update&)>& condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 10s, [&] { return update_ && condition(*update_); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  UpdatePtr update_;
};

class Scripted final : public Registry {
 public:
  using Run = std::function<base::Result<void>(Feed&)>;
  explicit Scripted(Run run) : run_(std::move(run)) {}
  base::Result<void> run(Feed& feed) override { return run_(feed); }

 private:
  Run run_;
};

std::vector<model::ServicePtr> one_service(const char* name, const char* frontend = "240.64.0.1:80") {
  auto service = std::make_shared<model::Service>();
  service->name = name;
  service->frontend.address = *base::SocketAddress::parse(frontend);
  return {service};
}

RegistrySource::Options options() {
  return {.book = {.name = "prod", .type = "dns", .max_stale = std::nullopt, .give_address = {}},
          .restored = {},
          .backoff = {.base = 1ms, .cap = 2ms, .floor = 1ms}};
}

TEST(RegistrySource, a_client_that_fails_is_run_again_and_what_it_said_stays) {
  std::atomic<int> runs = 0;
  RegistrySource source(std::make_unique<Scripted>([&](Feed& feed) -> base::Result<void> {
                          if (++runs == 1) {
                            feed.publish(one_service("a"));
                            return base::fail(base::ErrorKind::kTimeout, "ask: no answer");
                          }
                          if (runs < 5) return base::fail(base::ErrorKind::kUnavailable, "connect: refused");
                          feed.publish(one_service("b"));
                          feed.wait(1h);
                          return {};
                        }),
                        options());
  Newest newest;
  source.start([&](UpdatePtr update) { newest.put(std::move(update)); });
  EXPECT_TRUE(newest.wait([](const auto& update) {
    return !update.services.empty() && update.services[0]->name == "b" &&
           update.status.state == model::SourceState::kSynced;
  }));
  EXPECT_EQ(source.status().errors, 4u);
  source.stop();
  EXPECT_EQ(runs, 5);
}

TEST(RegistrySource, a_client_that_waits_is_woken_by_stop) {
  RegistrySource source(std::make_unique<Scripted>([](Feed& feed) -> base::Result<void> {
                          feed.publish({});
                          pollfd wake{feed.wake_fd(), POLLIN, 0};
                          EXPECT_EQ(::poll(&wake, 1, 10'000), 1) << "woken, not out of time";
                          EXPECT_TRUE(feed.stopping());
                          EXPECT_FALSE(feed.wait(1h));
                          return {};
                        }),
                        options());
  Newest newest;
  source.start([&](UpdatePtr update) { newest.put(std::move(update)); });
  EXPECT_TRUE(newest.wait([](const auto& update) { return update.status.state == model::SourceState::kSynced; }));
  source.stop();
}

TEST(RegistrySource, another_client_takes_over_and_nothing_is_lost_meanwhile) {
  RegistrySource source(std::make_unique<Scripted>([](Feed& feed) -> base::Result<void> {
                          feed.publish(one_service("a"));
                          feed.wait(1h);
                          return {};
                        }),
                        options());
  Newest newest;
  std::atomic<bool> emptied = false;
  source.start([&](UpdatePtr update) {
    if (update->status.synced_at != base::WallTime{} && update->services.empty()) emptied = true;
    newest.put(std::move(update));
  });
  EXPECT_TRUE(newest.wait([](const auto& update) { return !update.services.empty(); }));
  source.reconfigure(std::make_unique<Scripted>([](Feed& feed) -> base::Result<void> {
                       EXPECT_FALSE(feed.stopping()) << "the wake was for the one before";
                       feed.publish(one_service("b"));
                       feed.wait(1h);
                       return {};
                     }),
                     60s);
  EXPECT_TRUE(newest.wait([](const auto& update) {
    return !update.services.empty() && update.services[0]->name == "b" && update.status.max_stale == 60s;
  }));
  EXPECT_FALSE(emptied);
  source.stop();
}

TEST(RegistrySource, addresses_are_on_disk_before_they_are_used) {
  bool kept = false;
  auto with = options();
  with.book.give_address = [](const std::string&, bool) { return base::IpAddress::parse("240.65.0.1"); };
  with.keep_addresses = [&kept]() -> base::Result<void> {
    kept = true;
    return {};
  };
  RegistrySource source(std::make_unique<Scripted>([](Feed& feed) -> base::Result<void> {
                          feed.publish(one_service("a", "0.0.0.0:80"));
                          feed.wait(1h);
                          return {};
                        }),
                        std::move(with));
  Newest newest;
  source.start([&](UpdatePtr update) {
    if (!update->services.empty()) EXPECT_TRUE(kept);
    newest.put(std::move(update));
  });
  EXPECT_TRUE(newest.wait([](const auto& update) { return !update.services.empty(); }));
  source.stop();
}

}  // namespace
}  // namespace mesh::discovery
