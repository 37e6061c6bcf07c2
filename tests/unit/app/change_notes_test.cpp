// SPDX-License-Identifier: Apache-2.0
#include "app/change_notes.hpp"

#include <gtest/gtest.h>

#include "tests/support/routing_builder.hpp"

namespace mesh::app {
namespace {

using namespace std::chrono_literals;
using support::route;
using support::table;

std::vector<std::string> lines(const std::vector<api::HistoryEvent>& events) {
  std::vector<std::string> texts;
  for (const auto& event : events) {
    texts.push_back(event.kind + "|" + event.service.substr(event.service.find(' ') + 1) + "|" + event.endpoint + "|" +
                    event.text);
  }
  return texts;
}

model::ServiceRoutePtr with_health(const model::ServiceRoutePtr& before, model::Verdict verdict,
                                   model::ProbeReason reason) {
  auto changed = std::make_shared<model::ServiceRoute>(*before);
  auto health = std::make_shared<model::ServiceHealth>();
  health->endpoints.push_back({changed->service->endpoints[0].address, verdict, reason, 3, {}, {}, ""});
  changed->health = health;
  return changed;
}

using Lines = std::vector<std::string>;

TEST(RouteNotes, endpoints_and_services_that_come_and_go_are_named) {
  RouteNotes notes("canary");
  const auto kept = route({"240.64.0.1:80", {{"10.0.0.1:80", 1}}});
  EXPECT_EQ(lines(notes.look(table({kept, route({"240.64.0.2:80", {{"10.0.0.1:80", 1}, {"10.0.0.2:80", 1}}})}))),
            Lines{"started|||the agent started with 2 services, 3 endpoints"});
  EXPECT_EQ(
      lines(notes.look(table(
          {kept, route({"240.64.0.2:80", {{"10.0.0.2:80", 1}, {"10.0.0.3:80", 4}}}), route({"240.64.0.3:80", {}})}))),
      (Lines{"endpoint_removed|240.64.0.2:80/tcp|10.0.0.1:80|", "endpoint_added|240.64.0.2:80/tcp|10.0.0.3:80|weight 4",
             "service_added|240.64.0.3:80/tcp||0 endpoints"}));
  EXPECT_EQ(lines(notes.look(table({kept}))),
            (Lines{"service_removed|240.64.0.2:80/tcp||", "service_removed|240.64.0.3:80/tcp||"}));
  EXPECT_TRUE(notes.look(table({kept})).empty());
}

TEST(RouteNotes, verdicts_that_change_are_noted_once_and_a_first_success_is_not) {
  RouteNotes notes("canary");
  const auto plain = route({"240.64.0.1:80", {{"10.0.0.1:80", 1}}});
  (void)notes.look(table({plain}));
  const auto up = with_health(plain, model::Verdict::kUp, model::ProbeReason::kOk);
  EXPECT_TRUE(notes.look(table({up})).empty());
  const auto down = with_health(up, model::Verdict::kDown, model::ProbeReason::kRefused);
  EXPECT_EQ(lines(notes.look(table({down}))), Lines{"probe|240.64.0.1:80/tcp|10.0.0.1:80|up -> down: refused x3"});
  EXPECT_TRUE(notes.look(table({with_health(down, model::Verdict::kDown, model::ProbeReason::kTimeout)})).empty());
  EXPECT_EQ(lines(notes.look(table({up}))), Lines{"probe|240.64.0.1:80/tcp|10.0.0.1:80|down -> up: ok x3"});
}

TEST(RouteNotes, a_flood_is_cut_and_says_so) {
  RouteNotes notes("canary");
  (void)notes.look(table({}));
  const auto events = notes.look(support::large_table(RouteNotes::kEventsMax + 7, 1, model::Algorithm::kRoundRobin));
  ASSERT_EQ(events.size(), RouteNotes::kEventsMax + 1);
  EXPECT_EQ(events.back().text, "and 7 more changes");
}

TEST(RouteNotes, the_canarys_own_services_are_left_out) {
  auto canary = std::make_shared<model::ServiceRoute>(*route({"240.64.0.1:80", {}}));
  auto service = std::make_shared<model::Service>(*canary->service);
  service->source = "canary";
  canary->service = service;
  RouteNotes notes("canary");
  EXPECT_EQ(lines(notes.look(table({canary}))), Lines{"started|||the agent started with 0 services, 0 endpoints"});
  EXPECT_TRUE(notes.look(table({})).empty());
}

class RefusalNotesTest : public testing::Test {
 protected:
  std::vector<std::string> look(std::chrono::seconds at, std::uint64_t refused, std::uint64_t no_backend) {
    std::vector<std::string> texts;
    const auto label = [](std::uint32_t id) { return "service " + std::to_string(id); };
    for (const auto& event : notes_.look({{7, refused, no_backend}}, label, base::TimePoint(at))) {
      texts.push_back(event.service + ": " + event.text + " x" + std::to_string(event.count));
    }
    return texts;
  }
  RefusalNotes notes_;
};

TEST_F(RefusalNotesTest, are_said_at_once_and_then_once_a_minute_with_their_number) {
  EXPECT_TRUE(look(1s, 100, 100).empty()) << "from before the start";
  EXPECT_EQ(look(2s, 101, 101), Lines{"service 7: 1 connect: no usable backend x1"});
  EXPECT_TRUE(look(3s, 150, 150).empty());
  EXPECT_EQ(look(62s, 160, 155),
            (Lines{"service 7: 54 connects: no usable backend, 5 connects: `meshctl bpf stats` has the "
                   "reasons x59"}));
  EXPECT_TRUE(look(200s, 160, 155).empty());
  EXPECT_EQ(look(300s, 161, 155), Lines{"service 7: 1 connect: `meshctl bpf stats` has the reasons x1"});
}

TEST_F(RefusalNotesTest, a_service_that_is_new_starts_from_nothing) {
  const auto label = [](std::uint32_t) { return std::string("new"); };
  EXPECT_TRUE(notes_.look({}, label, base::TimePoint(1s)).empty());
  EXPECT_EQ(look(2s, 3, 3).size(), 1U);
}

TEST_F(RefusalNotesTest, an_id_that_was_given_away_starts_again) {
  (void)look(1s, 100, 100);
  EXPECT_EQ(look(2s, 3, 3), Lines{"service 7: 3 connects: no usable backend x3"});
}

TEST(PauseNotes, a_pause_that_ends_by_itself_is_noted_once_and_one_that_was_ended_is_not) {
  PauseNotes notes;
  const std::uint64_t end = std::chrono::nanoseconds(10s).count();
  EXPECT_TRUE(notes.look({{"", 0}, {"orders x", end}, {"cache x", end}}, base::TimePoint(5s)).empty());
  EXPECT_TRUE(notes.look({{"", end}, {"orders x", end}}, base::TimePoint(6s)).empty());  // cache was resumed, or went
  EXPECT_EQ(lines(notes.look({{"", end}, {"orders x", end}, {"cache x", end}}, base::TimePoint(10s))),
            (Lines{"pause|||over: connects are balanced again", "pause|x||over: connects are balanced again"}));
  EXPECT_TRUE(notes.look({{"", end}, {"orders x", end}}, base::TimePoint(11s)).empty());
}

}  // namespace
}  // namespace mesh::app
