// SPDX-License-Identifier: Apache-2.0
#include "discovery/source_book.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>

#include "base/random.hpp"

namespace mesh::discovery {
namespace {

using namespace std::chrono_literals;
using model::SourceState;

base::SocketAddress address(const char* text) { return *base::SocketAddress::parse(text); }

std::shared_ptr<model::Service> service(const char* name, const char* frontend, std::vector<const char*> endpoints) {
  auto service = std::make_shared<model::Service>();
  service->name = name;
  service->frontend.address = address(frontend);
  for (const char* text : endpoints) service->endpoints.push_back({.address = address(text)});
  return service;
}

const base::Error kAway{base::ErrorKind::kUnavailable, "ask the registry: no answer", "", 0};

class Book : public testing::Test {
 protected:
  SourceBook make(Restored restored = {}, std::chrono::milliseconds wait = 0ms) {
    return SourceBook({.name = "prod",
                       .type = "dns",
                       .max_stale = 3600s,
                       .first_answer_wait = wait,
                       .give_address = [this](const std::string& name, bool) -> base::Result<base::IpAddress> {
                         ++given_;
                         if (name == "full") return base::fail(base::ErrorKind::kExhausted, "give it an address: none");
                         return *base::IpAddress::parse("240.65.0.1");
                       }},
                      std::move(restored), now_);
  }
  void pass(base::Duration time) {
    now_.steady += time;
    now_.wall += time;
  }
  SourceBook::Now now_{base::TimePoint{1000h}, base::WallTime{500'000h}};
  int given_ = 0;
};

TEST_F(Book, an_answer_is_synced_and_an_unchanged_service_keeps_its_pointer) {
  SourceBook book = make();
  EXPECT_EQ(book.status().state, SourceState::kConnecting);
  EXPECT_TRUE(book.publish(
      {service("b", "240.64.0.2:80", {"10.0.0.2:80", "10.0.0.1:80"}), service("a", "240.64.0.1:80", {"10.0.0.1:80"})},
      now_));
  const UpdatePtr first = book.update();
  EXPECT_EQ(first->status.state, SourceState::kSynced);
  EXPECT_EQ(first->status.endpoints, 3u);
  ASSERT_EQ(first->services.size(), 2u);
  EXPECT_EQ(first->services[0]->name, "a");
  EXPECT_EQ(first->services[0]->source, "prod");
  EXPECT_EQ(first->services[1]->endpoints[0].address, address("10.0.0.1:80"));

  EXPECT_TRUE(book.publish(
      {service("a", "240.64.0.1:80", {"10.0.0.1:80"}), service("b", "240.64.0.2:80", {"10.0.0.1:80"})}, now_));
  const UpdatePtr second = book.update();
  EXPECT_EQ(second->services[0], first->services[0]);
  EXPECT_NE(second->services[1], first->services[1]);
  EXPECT_GT(second->generation, first->generation);
  EXPECT_FALSE(book.publish(
      {service("a", "240.64.0.1:80", {"10.0.0.1:80"}), service("b", "240.64.0.2:80", {"10.0.0.1:80"})}, now_))
      << "nothing changed: nothing is to be done";
  EXPECT_EQ(book.status().updates, 2u);
}

TEST_F(Book, a_registry_that_is_away_removes_nothing_and_an_empty_answer_does) {
  SourceBook book = make();
  book.publish({service("a", "240.64.0.1:80", {"10.0.0.1:80"})}, now_);
  const auto synced_at = now_.wall;
  pass(10s);
  EXPECT_TRUE(book.report(kAway, now_));
  EXPECT_FALSE(book.report(kAway, now_)) << "the same trouble again is no news";
  const UpdatePtr stale = book.update();
  EXPECT_EQ(stale->services.size(), 1u);
  EXPECT_EQ(stale->status.state, SourceState::kStale);
  EXPECT_EQ(stale->status.since, now_.wall);
  EXPECT_EQ(stale->status.synced_at, synced_at);
  EXPECT_EQ(stale->status.errors, 2u);
  EXPECT_EQ(stale->status.errors_by_kind[static_cast<std::size_t>(base::ErrorKind::kUnavailable)], 2u);
  EXPECT_EQ(stale->status.error, kAway);

  EXPECT_TRUE(book.confirm(now_));
  EXPECT_EQ(book.update()->status.state, SourceState::kSynced);
  EXPECT_TRUE(book.publish({}, now_));
  EXPECT_TRUE(book.update()->services.empty());
}

TEST_F(Book, an_answer_with_fewer_endpoints_than_the_guard_allows_is_not_believed) {
  SourceBook book = make();
  book.set_limits(3600s, {{"pay-*", 2}}, now_);
  const auto endpoints = [&](std::size_t service) { return book.services()[service]->endpoints.size(); };
  const auto answer = [&](std::vector<const char*> orders, std::vector<const char*> pay) {
    book.publish(
        {service("orders", "240.64.0.1:80", std::move(orders)), service("pay-eu", "240.64.0.2:80", std::move(pay))},
        now_);
  };
  answer({"10.0.0.1:80", "10.0.0.2:80"}, {"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"});
  answer({}, {});
  EXPECT_EQ(endpoints(0), 0u) << "without a guard an empty answer is honoured";
  EXPECT_EQ(endpoints(1), 3u);
  ASSERT_TRUE(book.status().error);
  EXPECT_EQ(book.status().error->message,
            "use all of the answer: pay-eu: 0 endpoints, and min_endpoints is 2: the 3 before stay");
  EXPECT_EQ(book.status().state, SourceState::kSynced);
  book.exchange({service("pay-eu", "240.64.0.2:80", {"10.0.0.9:80"})}, now_);
  EXPECT_EQ(endpoints(1), 3u) << "one is too few as well";
  book.exchange({service("pay-eu", "240.64.0.2:80", {"10.0.0.8:80", "10.0.0.9:80"})}, now_);
  EXPECT_EQ(endpoints(1), 2u);
  EXPECT_FALSE(book.status().error);

  answer({}, {"10.0.0.8:80"});
  EXPECT_EQ(endpoints(1), 2u);
  book.set_limits(3600s, {}, now_);
  answer({}, {"10.0.0.8:80"});
  EXPECT_EQ(endpoints(1), 1u) << "the guard was taken away";
  book.publish({}, now_);
  EXPECT_TRUE(book.services().empty()) << "a service that is gone is gone";
}

TEST_F(Book, a_guard_counts_from_what_was_restored_and_never_waits_for_a_first_answer) {
  auto restored = service("orders", "240.64.0.1:80", {"10.0.0.1:80"});
  restored->source = restored->origin = "prod";
  SourceBook book = make({.services = {restored}, .saved_at = now_.wall});
  book.set_limits(3600s, {{"all", 1}}, now_);
  book.publish({service("new", "240.64.0.2:80", {}), service("orders", "240.64.0.1:80", {})}, now_);
  ASSERT_EQ(book.services().size(), 2u);
  EXPECT_EQ(book.services()[0]->endpoints.size(), 1u);
  EXPECT_TRUE(book.services()[1]->endpoints.empty()) << "it had none";
}

TEST_F(Book, without_a_first_answer_it_is_failed_and_what_was_restored_stays) {
  SourceBook nothing = make();
  EXPECT_NE(nothing.update(), nullptr) << "nobody waits for it";
  EXPECT_TRUE(nothing.report(kAway, now_));
  EXPECT_EQ(nothing.update()->status.state, SourceState::kFailed);

  const model::ServicePtr old = service("a", "240.64.0.1:80", {"10.0.0.1:80"});
  SourceBook restored = make({{old}, now_.wall - 60s});
  EXPECT_EQ(restored.update()->services, std::vector{old});
  EXPECT_EQ(restored.update()->status.state, SourceState::kConnecting);
  pass(SourceBook::kFirstTry);
  EXPECT_TRUE(restored.look(now_)) << "a registry that hangs says nothing, and that is said";
  EXPECT_EQ(restored.update()->status.state, SourceState::kStale);
  EXPECT_EQ(restored.update()->services, std::vector{old});
  EXPECT_TRUE(restored.publish({service("a", "240.64.0.1:80", {"10.0.0.1:80"})}, now_));
  EXPECT_EQ(restored.update()->services, std::vector{old}) << "the same as before the restart";
}

TEST_F(Book, who_takes_over_tables_hears_nothing_before_the_first_answer_but_not_for_ever) {
  SourceBook book = make({}, 5s);
  EXPECT_EQ(book.update(), nullptr);
  pass(4s);
  EXPECT_FALSE(book.look(now_));
  pass(1s);
  EXPECT_TRUE(book.look(now_));
  ASSERT_NE(book.update(), nullptr);
  EXPECT_EQ(book.update()->status.state, SourceState::kConnecting);
}

TEST_F(Book, after_max_stale_only_what_a_probe_confirms_is_used_and_probes_begin_before) {
  SourceBook book = make();
  const auto dns = service("dns", "240.64.0.3:53", {"10.0.0.3:53"});
  dns->frontend.protocol = model::Protocol::kUdp;
  const auto seldom = service("seldom", "240.64.0.4:80", {"10.0.0.4:80"});
  auto probe = std::make_shared<model::ProbePolicy>();
  probe->type = model::ProbeType::kHttp;
  probe->when = model::ProbeWhen::kUsed;
  seldom->probe = probe;
  book.publish({service("a", "240.64.0.1:80", {"10.0.0.1:80"}), dns, seldom}, now_);
  const UpdatePtr fresh = book.update();
  book.report(kAway, now_);

  pass(3600s - SourceBook::kProbeLead - 1s);
  EXPECT_FALSE(book.look(now_));
  EXPECT_EQ(book.update()->services, fresh->services);

  pass(1s);
  EXPECT_TRUE(book.look(now_));
  UpdatePtr update = book.update();
  ASSERT_NE(update->services[0]->probe, nullptr);
  EXPECT_EQ(update->services[0]->probe->type, model::ProbeType::kTcp);
  EXPECT_FALSE(update->services[0]->only_confirmed) << "not before there can be results";
  EXPECT_EQ(update->services[1]->probe, nullptr) << "nothing can confirm UDP";
  EXPECT_EQ(update->services[2]->probe->type, model::ProbeType::kHttp);
  EXPECT_EQ(update->services[2]->probe->when, model::ProbeWhen::kAlways);
  EXPECT_FALSE(update->status.only_confirmed);

  pass(SourceBook::kProbeLead);
  EXPECT_TRUE(book.look(now_));
  update = book.update();
  for (const auto& one : update->services) EXPECT_TRUE(one->only_confirmed) << one->name;
  EXPECT_TRUE(update->status.only_confirmed);
  EXPECT_EQ(update->status.services, 3u);

  EXPECT_TRUE(book.confirm(now_));
  EXPECT_EQ(book.update()->services, fresh->services) << "with the very pointers of before";
  EXPECT_FALSE(book.status().only_confirmed);
}

TEST_F(Book, what_was_restored_old_is_probed_before_it_has_to_be_confirmed) {
  const model::ServicePtr old = service("a", "240.64.0.1:80", {"10.0.0.1:80"});
  SourceBook book = make({{old}, now_.wall - 24h});
  book.report(kAway, now_);
  EXPECT_NE(book.update()->services[0]->probe, nullptr);
  EXPECT_FALSE(book.update()->services[0]->only_confirmed);
  pass(SourceBook::kProbeLead);
  EXPECT_TRUE(book.look(now_));
  EXPECT_TRUE(book.update()->services[0]->only_confirmed);
  EXPECT_TRUE(book.set_limits(std::nullopt, {}, now_));
  EXPECT_EQ(book.update()->services, std::vector{old}) << "never is never";
}

TEST_F(Book, a_clock_that_jumps_makes_nothing_older_or_younger) {
  SourceBook book = make();
  book.publish({service("a", "240.64.0.1:80", {"10.0.0.1:80"})}, now_);
  book.report(kAway, now_);
  now_.wall += 24h;
  EXPECT_FALSE(book.look(now_));
  now_.wall -= 48h;
  EXPECT_FALSE(book.look(now_));
  EXPECT_FALSE(book.status().only_confirmed);
}

TEST_F(Book, what_cannot_be_used_is_said_and_the_rest_is_used) {
  SourceBook book = make();
  book.publish({service("a", "240.64.0.1:80", {"10.0.0.1:80", "[fd00::1]:80", "240.64.0.1:80", "10.0.0.1:80"}),
                service("No_Good Name", "240.64.0.2:80", {})},
               now_);
  const UpdatePtr update = book.update();
  EXPECT_EQ(update->status.state, SourceState::kSynced);
  ASSERT_EQ(update->services.size(), 1u);
  EXPECT_EQ(update->services[0]->endpoints.size(), 1u) << "the same address twice is one";
  ASSERT_TRUE(update->status.error);
  EXPECT_NE(update->status.error->message.find("(and 2 more)"), std::string::npos) << update->status.error->message;
  EXPECT_EQ(update->status.errors, 1u);
}

TEST_F(Book, a_service_without_an_address_gets_one_by_its_name) {
  SourceBook book = make();
  book.publish({service("a", "1.1.1.1:80", {"10.0.0.1:80"}), service("b", "1.1.1.1:80", {"10.0.0.1:80"})}, now_);
  EXPECT_EQ(given_, 0);
  const auto nameless = service("a", "1.1.1.1:80", {"10.0.0.1:80"});
  nameless->frontend.address.ip = *base::IpAddress::parse("0.0.0.0");
  const auto too_many = std::make_shared<model::Service>(*nameless);
  too_many->name = "full";
  book.publish({nameless, too_many}, now_);
  ASSERT_EQ(book.update()->services.size(), 1u);
  EXPECT_EQ(book.update()->services[0]->frontend.to_string(), "240.65.0.1:80/tcp");
  ASSERT_TRUE(book.status().error);
  EXPECT_NE(book.status().error->message.find("give it an address"), std::string::npos);
  given_ = 0;
  book.touch_addresses();
  EXPECT_EQ(given_, 1) << "what is in use stays in use";
}

TEST_F(Book, what_was_refused_is_tried_again_and_what_was_taken_is_not) {
  SourceBook book = make();
  const auto nameless = service("a", "0.0.0.0:80", {"10.0.0.1:80"});
  const auto too_many = service("full", "0.0.0.0:80", {"10.0.0.1:80"});
  book.publish({nameless, too_many}, now_);
  EXPECT_EQ(given_, 2);
  EXPECT_FALSE(book.publish({nameless, too_many}, now_));
  EXPECT_EQ(given_, 3) << "there may be an address by now";
  EXPECT_TRUE(book.status().error) << "it is still refused";
  EXPECT_TRUE(book.publish({nameless}, now_));
  EXPECT_FALSE(book.status().error);
}

/// A client that says the same pointers again, moves, adds, drops and exchanges services; and one that says all anew.
TEST_F(Book, pointers_that_are_said_again_mean_the_same_as_new_ones) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  base::Random random(seed);
  SourceBook shared = make();
  std::vector<model::ServicePtr> said;
  std::vector<model::ServicePtr> before;
  const auto draw = [&] {
    const std::string number = std::to_string(random.below(12));
    const std::string name = "s" + number;
    const std::string frontend =
        "240.64.0." + std::to_string(random.below(4) == 0 ? random.below(12) : std::stoul(number)) + ":80";
    const std::string endpoint = "10.0.0." + std::to_string(random.below(5)) + (random.below(20) == 0 ? ":0" : ":80");
    return service(name.c_str(), frontend.c_str(), {endpoint.c_str(), "10.0.1.1:80"});
  };
  for (int round = 0; round < 2000; ++round) {
    std::vector<model::ServicePtr> exchanged;
    const bool only_exchanges = round > 0 && random.below(2) == 0;
    for (auto changes = random.below(4); changes > 0; --changes) {
      const auto at = static_cast<std::ptrdiff_t>(random.below(said.size() + 1));
      const auto what = only_exchanges ? 2 : random.below(4);
      if (only_exchanges && at == std::ssize(said)) continue;
      if (what == 0 || at == std::ssize(said)) {
        const auto drawn = draw();
        const auto is_it = [&](const auto& one) {
          return one->name == drawn->name && one->frontend == drawn->frontend;
        };
        if (std::ranges::none_of(said, is_it)) said.insert(said.begin() + at, drawn);
      } else if (what == 1) {
        said.erase(said.begin() + at);
      } else if (what == 2) {
        const auto changed = std::make_shared<model::Service>(*said[at]);
        changed->endpoints.front().weight = static_cast<std::uint16_t>(random.below(3));
        said[at] = changed;
        exchanged.push_back(changed);
      } else {
        std::swap(said[at], said[random.below(said.size())]);
      }
    }
    const bool changed = only_exchanges ? shared.exchange(exchanged, now_) : shared.publish(said, now_);
    SourceBook anew = make();
    std::vector<model::ServicePtr> copies;
    for (const auto& one : said) copies.push_back(std::make_shared<const model::Service>(*one));
    anew.publish(std::move(copies), now_);
    ASSERT_TRUE(std::ranges::equal(shared.services(), anew.services(),
                                   [](const auto& a, const auto& b) { return a->same_as(*b); }))
        << "round " << round;
    ASSERT_EQ(shared.status().endpoints, anew.status().endpoints);
    ASSERT_EQ(shared.status().error.has_value(), anew.status().error.has_value());
    if (!changed) ASSERT_EQ(shared.services(), before);
    before = shared.services();
  }
}

}  // namespace
}  // namespace mesh::discovery
