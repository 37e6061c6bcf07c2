// SPDX-License-Identifier: Apache-2.0
#include "health/engine.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "tests/support/fake_loop.hpp"

namespace mesh::health {
namespace {

using namespace std::chrono_literals;
using io::FakeLoop;
using model::Verdict;

base::SocketAddress address(std::string_view text) { return *base::SocketAddress::parse(text); }

model::ServicePtr service(std::string_view frontend, const std::vector<std::string>& endpoints,
                          const model::ProbePolicy& policy) {
  auto made = std::make_shared<model::Service>();
  made->name = "s";
  made->frontend = {.address = address(frontend)};
  made->probe = std::make_shared<model::ProbePolicy>(policy);
  for (const auto& text : endpoints) made->endpoints.push_back({.address = address(text)});
  return made;
}

struct EngineTest : testing::Test {
  void set(std::vector<model::ServicePtr> services) {
    auto snapshot = std::make_shared<model::Snapshot>();
    snapshot->services = std::move(services);
    engine.set_services(snapshot);
  }
  Verdict verdict(std::string_view frontend, std::string_view endpoint) {
    const auto found = view.find({.address = address(frontend)});
    if (found == view.end()) return Verdict::kUnknown;
    const auto* record = found->second->find(address(endpoint));
    return record == nullptr ? Verdict::kUnknown : record->verdict;
  }
  int connects(std::string_view endpoint) const {
    return static_cast<int>(std::ranges::count_if(loop.calls, [&](const auto& call) {
      return call.kind == FakeLoop::Kind::kConnect && call.address == address(endpoint);
    }));
  }

  FakeLoop loop;
  ProbeCells cells;
  model::HealthView view;
  int publishes = 0;
  Engine engine{
      loop, {.max_probes_per_second = 1000, .node_seed = 1, .user_agent = "test"}, cells, [this](HealthBatch batch) {
        ++publishes;
        for (auto& [frontend, health] : batch) {
          if (health) {
            view[frontend] = health;
          } else {
            view.erase(frontend);
          }
        }
      }};
};

constexpr std::string_view kVip = "240.64.0.1:80";

TEST_F(EngineTest, first_results_come_at_once_and_later_probes_keep_their_interval) {
  set({service(kVip, {"10.0.0.1:80"}, {.interval = 1000ms, .jitter_percent = 0})});
  loop.advance(20ms);
  EXPECT_EQ(verdict(kVip, "10.0.0.1:80"), Verdict::kUp);
  loop.advance(10s);
  EXPECT_NEAR(connects("10.0.0.1:80"), 11, 1);
  std::vector<base::TimePoint> begun;
  for (const auto& call : loop.calls) begun.push_back(call.at);
  for (std::size_t i = 2; i < begun.size(); ++i) {
    EXPECT_NEAR(std::chrono::duration<double>(begun[i] - begun[1]).count(), static_cast<double>(i - 1), 0.005)
        << "the schedule drifts";
  }
}

TEST_F(EngineTest, a_dead_endpoint_is_down_within_fall_intervals_and_a_timeout) {
  for (unsigned fall = 1; fall <= 4; ++fall) {
    set({});
    loop.advance(1s);
    bool dead = false;
    loop.script = [&](const FakeLoop::Call&) { return dead ? std::nullopt : std::optional(FakeLoop::Answer{}); };
    const model::ProbePolicy policy{.interval = 2000ms, .timeout = 700ms, .fast_interval = 500ms, .fall = fall};
    set({service(kVip, {"10.0.0.1:80"}, policy)});
    loop.advance(7s + fall * 123ms);
    ASSERT_EQ(verdict(kVip, "10.0.0.1:80"), Verdict::kUp);
    dead = true;
    base::Duration took{0};
    while (verdict(kVip, "10.0.0.1:80") == Verdict::kUp && took < 60s) {
      loop.advance(10ms);
      took += 10ms;
    }
    EXPECT_LE(took, fall * 2000ms + 700ms + 20ms) << fall;
  }
}

TEST_F(EngineTest, a_refused_probe_is_named_and_comes_back_after_rise_successes) {
  std::int32_t result = -ECONNREFUSED;
  loop.script = [&](const FakeLoop::Call&) { return FakeLoop::Answer{.result = result}; };
  set({service(kVip, {"10.0.0.1:80"}, {.interval = 1000ms, .fast_interval = 100ms, .jitter_percent = 0})});
  loop.advance(1s);
  ASSERT_EQ(verdict(kVip, "10.0.0.1:80"), Verdict::kDown);
  const auto* record = view.begin()->second->find(address("10.0.0.1:80"));
  EXPECT_EQ(record->reason, model::ProbeReason::kRefused);
  EXPECT_EQ(record->streak, 3U);
  result = 0;
  loop.advance(1200ms);
  EXPECT_EQ(verdict(kVip, "10.0.0.1:80"), Verdict::kUp);
}

TEST_F(EngineTest, own_trouble_is_counted_and_blames_nobody) {
  set({service(kVip, {"10.0.0.1:80"}, {.interval = 100ms})});
  loop.advance(1s);
  ASSERT_EQ(verdict(kVip, "10.0.0.1:80"), Verdict::kUp);
  loop.script = [](const FakeLoop::Call&) { return FakeLoop::Answer{.result = -EADDRNOTAVAIL}; };
  loop.advance(5s);
  EXPECT_EQ(verdict(kVip, "10.0.0.1:80"), Verdict::kUp);
  EXPECT_GT(cells.types[0].results[static_cast<std::size_t>(model::ProbeReason::kLocal)], 10U);
  EXPECT_EQ(engine.latest({.address = address(kVip)})->endpoints[0].reason, model::ProbeReason::kLocal);
}

TEST_F(EngineTest, state_stays_over_a_snapshot_change_and_goes_with_its_endpoint) {
  const model::ProbePolicy policy{.interval = 1000ms};
  set({service(kVip, {"10.0.0.1:80", "10.0.0.2:80"}, policy)});
  loop.advance(10ms);
  loop.script = [](const FakeLoop::Call&) { return std::optional<FakeLoop::Answer>(); };
  set({service(kVip, {"10.0.0.2:80", "10.0.0.3:80"}, policy)});  // an equal policy in another object
  loop.advance(20ms);
  EXPECT_EQ(verdict(kVip, "10.0.0.1:80"), Verdict::kUnknown);
  EXPECT_EQ(verdict(kVip, "10.0.0.2:80"), Verdict::kUp);
  EXPECT_EQ(verdict(kVip, "10.0.0.3:80"), Verdict::kUnknown);
  EXPECT_EQ(cells.targets, 2U);
  EXPECT_EQ(connects("10.0.0.2:80"), 1);
  set({});
  loop.advance(50ms);
  EXPECT_TRUE(view.empty());
  EXPECT_EQ(cells.targets, 0U);
  EXPECT_EQ(cells.in_flight, 0U) << "the probe of a removed endpoint is called off";
}

TEST_F(EngineTest, equal_probes_of_several_services_are_made_once) {
  const model::ProbePolicy policy{.interval = 1000ms, .jitter_percent = 0};
  set({service("240.64.0.1:80", {"10.0.0.1:80"}, policy), service("240.64.0.2:80", {"10.0.0.1:80"}, policy)});
  loop.advance(3s);
  EXPECT_EQ(verdict("240.64.0.1:80", "10.0.0.1:80"), Verdict::kUp);
  EXPECT_EQ(verdict("240.64.0.2:80", "10.0.0.1:80"), Verdict::kUp);
  EXPECT_LE(connects("10.0.0.1:80"), 4);
  set({service("240.64.0.2:80", {"10.0.0.1:80"}, policy)});
  loop.advance(2s);
  EXPECT_EQ(view.size(), 1U);
  EXPECT_EQ(cells.targets, 1U);
}

TEST_F(EngineTest, services_that_nobody_uses_are_not_probed) {
  set({service(kVip, {"10.0.0.1:80"}, {.when = model::ProbeWhen::kUsed})});
  loop.advance(10s);
  EXPECT_TRUE(loop.calls.empty());
  EXPECT_TRUE(view.empty());
  engine.set_used(std::make_shared<UsedServices>(UsedServices{{.address = address(kVip)}}));
  loop.advance(20ms);
  EXPECT_EQ(verdict(kVip, "10.0.0.1:80"), Verdict::kUp);
  engine.set_used(std::make_shared<UsedServices>());
  loop.advance(20ms);
  EXPECT_TRUE(view.empty());
  const auto before = loop.calls.size();
  loop.advance(30s);
  EXPECT_EQ(loop.calls.size(), before);
}

TEST_F(EngineTest, the_rate_is_held_in_order_and_seen) {
  std::vector<std::string> endpoints;
  for (int i = 0; i < 250; ++i) endpoints.push_back("10.0." + std::to_string(i) + ".1:80");
  std::ranges::sort(endpoints, {}, [](const auto& text) { return address(text); });
  engine.set_max_probes_per_second(100);
  set({service(kVip, endpoints, {.interval = 60000ms})});
  const base::TimePoint start = loop.now();
  loop.advance(1s);
  EXPECT_NEAR(static_cast<double>(loop.calls.size()), 100, 5);
  loop.advance(1600ms);
  EXPECT_GE(loop.calls.size(), 250U) << "everything has its first check as soon as the rate allows";
  EXPECT_GT(cells.rate_limited, 200U);
  EXPECT_GT(cells.late, 100U);
  std::set<base::SocketAddress> probed;
  for (const auto& call : loop.calls) probed.insert(call.address);
  EXPECT_EQ(probed.size(), 250U);
  for (std::size_t i = 0; i < loop.calls.size(); ++i) {  // in any window, no more than rate and burst
    EXPECT_LE(static_cast<double>(i), 3 + 100 * std::chrono::duration<double>(loop.calls[i].at - start).count());
  }
}

TEST_F(EngineTest, restored_verdicts_hold_until_probes_say_otherwise) {
  auto health = std::make_shared<model::ServiceHealth>();
  health->frontend = {.address = address(kVip)};
  health->endpoints = {
      {.address = address("10.0.0.1:80"), .verdict = Verdict::kDown, .streak = 3, .detail = "refused"}};
  engine.restore({{health->frontend, health}});
  loop.script = [](const FakeLoop::Call&) { return std::optional<FakeLoop::Answer>(); };
  set({service(kVip, {"10.0.0.1:80"}, {})});
  loop.advance(1ms);
  EXPECT_EQ(verdict(kVip, "10.0.0.1:80"), Verdict::kDown);
}

TEST_F(EngineTest, a_steady_state_publishes_nothing_but_latest_is_fresh) {
  set({service(kVip, {"10.0.0.1:80"}, {.interval = 1000ms})});
  loop.advance(2s);
  const int before = publishes;
  loop.advance(60s);
  EXPECT_EQ(publishes, before);
  const auto latest = engine.latest({.address = address(kVip)});
  ASSERT_NE(latest, nullptr);
  EXPECT_GT(latest->endpoints[0].streak, 50U);
  EXPECT_EQ(latest->endpoints[0].detail, "connected");
  EXPECT_EQ(engine.latest({.address = address("240.64.0.9:80")}), nullptr);
}

/// Answers HTTP requests on any connection; `closing` decides what a kept connection meets.
struct HttpPeer {
  std::optional<FakeLoop::Answer> operator()(const FakeLoop::Call& call) {
    switch (call.kind) {
      case FakeLoop::Kind::kConnect:
        fresh[call.fd] = true;
        return FakeLoop::Answer{.delay = 1ms};
      case FakeLoop::Kind::kSend:
        return FakeLoop::Answer{.result = static_cast<std::int32_t>(call.sent.size())};
      case FakeLoop::Kind::kReceive:
        if (!fresh[call.fd] && closes_kept) return FakeLoop::Answer{.result = 0};
        fresh[call.fd] = false;
        std::memcpy(call.receive_buffer.data(), reply.data(), reply.size());
        return FakeLoop::Answer{.result = static_cast<std::int32_t>(reply.size()), .delay = 1ms};
      default:
        return std::nullopt;
    }
  }
  std::string reply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
  bool closes_kept = false;
  std::map<int, bool> fresh;
};

TEST_F(EngineTest, http_probes_share_one_kept_connection) {
  HttpPeer peer;
  loop.script = std::ref(peer);
  set({service(kVip, {"10.0.0.1:80"}, {.type = model::ProbeType::kHttp, .interval = 1000ms, .jitter_percent = 0})});
  loop.advance(10s);
  EXPECT_EQ(connects("10.0.0.1:80"), 1);
  EXPECT_GT(cells.types[1].results[static_cast<std::size_t>(model::ProbeReason::kOk)], 9U);
  EXPECT_EQ(cells.kept_connections, 1U);
  set({});
  loop.advance(10ms);
  EXPECT_EQ(cells.kept_connections, 0U);
  EXPECT_EQ(loop.closed.size(), 1U);
}

TEST_F(EngineTest, a_kept_connection_that_the_peer_closed_is_replaced_within_the_probe) {
  HttpPeer peer{.closes_kept = true};
  loop.script = std::ref(peer);
  set({service(kVip, {"10.0.0.1:80"}, {.type = model::ProbeType::kHttp, .interval = 1000ms, .jitter_percent = 0})});
  loop.advance(10s);
  const auto& results = cells.types[1].results;
  EXPECT_GT(results[static_cast<std::size_t>(model::ProbeReason::kOk)], 9U);
  EXPECT_EQ(results[static_cast<std::size_t>(model::ProbeReason::kReset)], 0U);
  EXPECT_EQ(verdict(kVip, "10.0.0.1:80"), Verdict::kUp);
}

TEST_F(EngineTest, status_and_body_decide_an_http_probe) {
  HttpPeer peer;
  loop.script = std::ref(peer);
  const model::ProbePolicy policy{.type = model::ProbeType::kHttp, .expect = {{200, 200}}, .expect_body = "ok"};
  set({service(kVip, {"10.0.0.1:80"}, policy)});
  const auto outcome = [&] {
    loop.advance(6s);
    const auto latest = engine.latest({.address = address(kVip)})->endpoints[0];
    return std::pair(latest.reason, latest.detail);
  };
  using model::ProbeReason;
  EXPECT_EQ(outcome(), std::pair(ProbeReason::kOk, std::string("http 200")));
  peer.reply = "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n";
  EXPECT_EQ(outcome(), std::pair(ProbeReason::kStatus, std::string("http 302")));
  peer.reply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno";
  EXPECT_EQ(outcome(), std::pair(ProbeReason::kBody, std::string("http 200 without the expected body")));
  peer.reply = "SSH-2.0-x\r\n\r\n";
  EXPECT_EQ(outcome().first, ProbeReason::kProtocol);
}

}  // namespace
}  // namespace mesh::health
