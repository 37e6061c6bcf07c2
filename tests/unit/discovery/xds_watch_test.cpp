// SPDX-License-Identifier: Apache-2.0
#include "discovery/xds_watch.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mesh::discovery {
namespace {

using namespace std::chrono_literals;
using base::TimePoint;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const TimePoint kStart = TimePoint{} + 1h;

xds::Cluster by_eds(const std::string& name, const std::string& eds_name = "") {
  return {.name = name, .kind = xds::Cluster::Kind::kAds, .kind_name = {}, .eds_name = eds_name, .assignment = {}};
}
xds::Assignment assignment(const std::string& name, const std::vector<std::string>& addresses) {
  xds::Assignment assignment{.name = name, .localities = {}};
  if (addresses.empty()) return assignment;
  xds::Locality& locality = assignment.localities.emplace_back();
  for (const std::string& address : addresses) locality.endpoints.push_back({.address = address, .port = 80});
  return assignment;
}

class XdsWatchTest : public testing::Test {
 protected:
  XdsWatchTest()
      : watch_({.services = {{.match = "orders"}, {.match = "pay*"}, {.match = "cart-*", .name = "cart"}}},
               ServicePolicy{}, {.id = "node-1"}) {
    watch_.restart(now_);
    first_requests_ = requests();
  }
  void clusters(std::vector<xds::Cluster> said) {
    xds::Answer answer;
    answer.type = xds::Type::kCluster;
    answer.version = "c" + std::to_string(++count_);
    answer.nonce = answer.version;
    answer.clusters = std::move(said);
    watch_.answered(std::move(answer), now_);
  }
  void endpoints(std::vector<xds::Assignment> said) {
    xds::Answer answer;
    answer.type = xds::Type::kEndpoints;
    answer.version = "e" + std::to_string(++count_);
    answer.nonce = answer.version;
    answer.assignments = std::move(said);
    watch_.answered(std::move(answer), now_);
  }
  /// "clusters v=c1 n=c1 [a b] node refused: why" each.
  std::vector<std::string> requests() {
    std::vector<std::string> texts;
    for (const xds::Request& request : watch_.take_requests(now_)) {
      std::string text(to_string(request.type));
      text += " v=" + request.version + " n=" + request.nonce + " [";
      for (const std::string& name : request.names) text += (text.ends_with('[') ? "" : " ") + name;
      text += "]";
      if (request.node) text += " from " + request.node->id;
      if (request.error) text += " refused: " + *request.error;
      texts.push_back(std::move(text));
    }
    return texts;
  }
  /// "orders 10.0.0.1; pay 10.0.0.2" or "nothing new".
  std::string update() {
    const auto services = watch_.take_update();
    return services ? text_of(*services) : "nothing new";
  }
  static std::string text_of(const std::vector<model::ServicePtr>& services) {
    std::string text;
    for (const model::ServicePtr& service : services) {
      text += (text.empty() ? "" : "; ") + service->name;
      for (const model::Endpoint& one : service->endpoints) text += " " + one.address.ip.to_string();
    }
    return text;
  }
  std::vector<std::string> notes() {
    std::vector<std::string> texts;
    for (const base::Error& note : watch_.take_notes()) texts.push_back(note.message);
    return texts;
  }

  TimePoint now_ = kStart;
  int count_ = 0;
  std::vector<std::string> first_requests_;
  XdsWatch watch_;
};

TEST_F(XdsWatchTest, begins_with_all_clusters_and_says_who_it_is_once) {
  EXPECT_THAT(first_requests_, ElementsAre("clusters v= n= [] from node-1"));
  clusters({by_eds("orders"), by_eds("other")});
  EXPECT_THAT(requests(), ElementsAre("clusters v=c1 n=c1 []", "endpoints v= n= [orders]"));
  endpoints({assignment("orders", {"10.0.0.1"})});
  EXPECT_THAT(requests(), ElementsAre("endpoints v=e2 n=e2 [orders]"));
}

TEST_F(XdsWatchTest, is_settled_when_the_endpoints_of_all_wanted_clusters_are_said) {
  EXPECT_FALSE(watch_.settled());
  clusters({by_eds("orders"), by_eds("pay", "pay-eds"), by_eds("other")});
  EXPECT_FALSE(watch_.settled());
  endpoints({assignment("orders", {"10.0.0.1"})});
  EXPECT_FALSE(watch_.settled());
  endpoints({assignment("pay-eds", {"10.0.0.2"}), assignment("other", {"10.0.0.3"})});
  EXPECT_TRUE(watch_.settled());
  EXPECT_EQ(update(), "orders 10.0.0.1; pay 10.0.0.2");
  EXPECT_EQ(update(), "nothing new");
}

TEST_F(XdsWatchTest, no_cluster_at_all_is_an_answer) {
  clusters({});
  EXPECT_TRUE(watch_.settled());
  EXPECT_EQ(update(), "");
}

TEST_F(XdsWatchTest, an_answer_about_endpoints_says_nothing_about_others_and_one_about_clusters_is_everything) {
  clusters({by_eds("orders"), by_eds("pay")});
  endpoints({assignment("orders", {"10.0.0.1"}), assignment("pay", {"10.0.0.2"})});
  EXPECT_EQ(update(), "orders 10.0.0.1; pay 10.0.0.2");
  endpoints({assignment("pay", {})});
  EXPECT_EQ(update(), "orders 10.0.0.1; pay");
  requests();
  clusters({by_eds("pay")});
  EXPECT_EQ(update(), "pay");
  EXPECT_THAT(requests(), ElementsAre("clusters v=c4 n=c4 []", "endpoints v=e3 n=e3 [pay]"));
}

TEST_F(XdsWatchTest, a_repeated_answer_is_no_update) {
  clusters({by_eds("orders")});
  endpoints({assignment("orders", {"10.0.0.1"})});
  update();
  clusters({by_eds("orders")});
  endpoints({assignment("orders", {"10.0.0.1"})});
  EXPECT_EQ(update(), "nothing new");
}

TEST_F(XdsWatchTest, endpoints_that_change_are_exchanged_and_nothing_else_is_said) {
  clusters({by_eds("orders"), by_eds("pay")});
  endpoints({assignment("orders", {"10.0.0.1"}), assignment("pay", {"10.0.0.2"})});
  EXPECT_THAT(watch_.take_exchanged(), IsEmpty()) << "nothing was said that it could be exchanged for";
  update();
  endpoints({assignment("orders", {"10.0.0.3"}), assignment("pay", {"10.0.0.2"})});
  EXPECT_EQ(text_of(watch_.take_exchanged()), "orders 10.0.0.3");
  EXPECT_EQ(update(), "nothing new");
  endpoints({assignment("orders", {"10.0.0.4"})});
  clusters({by_eds("orders")});
  EXPECT_THAT(watch_.take_exchanged(), IsEmpty()) << "a cluster went too";
  EXPECT_EQ(update(), "orders 10.0.0.4");
}

TEST_F(XdsWatchTest, of_clusters_with_one_name_none_is_exchanged) {
  clusters({by_eds("cart-a"), by_eds("cart-b")});
  endpoints({assignment("cart-a", {"10.0.0.1"}), assignment("cart-b", {"10.0.0.2"})});
  update();
  endpoints({assignment("cart-b", {"10.0.0.3"})});
  EXPECT_THAT(watch_.take_exchanged(), IsEmpty());
  EXPECT_EQ(update(), "cart 10.0.0.1; cart 10.0.0.3");
}

TEST_F(XdsWatchTest, a_cluster_keeps_its_endpoints_until_those_of_its_new_name_are_said) {
  clusters({by_eds("orders", "old")});
  endpoints({assignment("old", {"10.0.0.1"})});
  EXPECT_EQ(update(), "orders 10.0.0.1");
  clusters({by_eds("orders", "new")});
  EXPECT_EQ(update(), "nothing new");
  EXPECT_FALSE(watch_.settled());
  endpoints({assignment("new", {"10.0.0.2"})});
  EXPECT_EQ(update(), "orders 10.0.0.2");
}

TEST_F(XdsWatchTest, a_new_cluster_with_endpoints_that_are_known_has_them_at_once) {
  clusters({by_eds("orders", "shared")});
  endpoints({assignment("shared", {"10.0.0.1"})});
  update();
  clusters({by_eds("orders", "shared"), by_eds("pay", "shared")});
  EXPECT_TRUE(watch_.settled());
  EXPECT_EQ(update(), "orders 10.0.0.1; pay 10.0.0.1");
}

TEST_F(XdsWatchTest, a_wrong_resource_is_refused_and_the_others_of_its_answer_count) {
  clusters({by_eds("orders"), by_eds("pay")});
  endpoints({assignment("orders", {"10.0.0.1"}), assignment("pay", {"10.0.0.2"})});
  update();
  requests();
  endpoints({assignment("orders", {"nowhere"}), assignment("pay", {"10.0.0.3"})});
  EXPECT_EQ(update(), "orders 10.0.0.1; pay 10.0.0.3");
  EXPECT_THAT(requests(), ElementsAre("endpoints v=e2 n=e3 [orders pay] refused: endpoints of 'orders': 'nowhere' is "
                                      "not the IP address of an endpoint"));
  ASSERT_TRUE(watch_.refused());
  EXPECT_THAT(watch_.refused()->message, HasSubstr("refused version 'e3' of endpoints"));
  clusters({by_eds("orders"), by_eds("pay")});
  EXPECT_TRUE(watch_.refused()) << "another type says nothing about it";
  endpoints({assignment("orders", {"10.0.0.4"})});
  EXPECT_FALSE(watch_.refused());
  EXPECT_EQ(update(), "orders 10.0.0.4; pay 10.0.0.3");
}

TEST_F(XdsWatchTest, what_was_refused_is_told_once) {
  clusters({by_eds("orders")});
  endpoints({assignment("orders", {"nowhere"})});
  const auto refusals = watch_.take_refusals();
  ASSERT_EQ(refusals.size(), 1U);
  EXPECT_EQ(refusals[0].what, "endpoints");
  EXPECT_EQ(refusals[0].version, "e2");
  EXPECT_THAT(refusals[0].why, HasSubstr("endpoints of 'orders'"));
  EXPECT_THAT(watch_.take_refusals(), IsEmpty());
}

TEST_F(XdsWatchTest, an_answer_that_can_not_be_trusted_as_a_whole_changes_nothing) {
  clusters({by_eds("orders")});
  endpoints({assignment("orders", {"10.0.0.1"})});
  update();
  requests();
  clusters({by_eds("pay"), by_eds("pay")});
  EXPECT_THAT(requests(), ElementsAre("clusters v=c1 n=c3 [] refused: 'pay' stands twice"));
  clusters({by_eds("")});
  now_ += 1s;
  EXPECT_THAT(requests(), ElementsAre("clusters v=c1 n=c4 [] refused: a resource has no name"));
  xds::Answer garbage;
  garbage.type = xds::Type::kEndpoints;
  garbage.problems = {"resource 0 is no ClusterLoadAssignment"};
  garbage.assignments = {assignment("orders", {"10.6.6.6"})};
  watch_.answered(garbage, now_);
  EXPECT_THAT(requests(), ElementsAre(HasSubstr("refused: resource 0 is no ClusterLoadAssignment")));
  EXPECT_EQ(update(), "nothing new");
}

TEST_F(XdsWatchTest, what_was_not_asked_for_is_named_and_ignored) {
  xds::Answer listeners;
  listeners.type_url = "type.googleapis.com/evil\n";
  watch_.answered(listeners, now_);
  EXPECT_THAT(requests(), IsEmpty());
  EXPECT_THAT(notes(), ElementsAre("the server said 'type.googleapis.com/evil?', unasked"));
}

TEST_F(XdsWatchTest, endpoints_in_the_cluster_itself_need_no_question) {
  xds::Cluster fixed{.name = "orders", .kind = xds::Cluster::Kind::kStatic};
  fixed.assignment = assignment("", {"10.0.0.1"});
  clusters({fixed});
  EXPECT_TRUE(watch_.settled());
  EXPECT_EQ(update(), "orders 10.0.0.1");
  fixed.assignment = assignment("", {"nowhere"});
  requests();
  clusters({fixed});
  EXPECT_EQ(update(), "nothing new");
  EXPECT_THAT(requests(), ElementsAre(HasSubstr("refused: cluster 'orders': 'nowhere'")));
}

TEST_F(XdsWatchTest, clusters_of_other_kinds_and_with_other_names_are_left_out_with_a_note_once) {
  xds::Cluster dns{.name = "orders", .kind = xds::Cluster::Kind::kOther, .kind_name = "STRICT_DNS"};
  clusters({dns, by_eds("pay me")});
  EXPECT_THAT(notes(), ElementsAre(HasSubstr("its endpoints come by 'STRICT_DNS'")));
  endpoints({assignment("pay me", {"10.0.0.1"})});
  EXPECT_THAT(notes(), ElementsAre(HasSubstr("give its rule a name")));
  EXPECT_EQ(update(), "");
  clusters({dns});
  EXPECT_THAT(notes(), IsEmpty());
}

TEST_F(XdsWatchTest, a_stream_that_says_nothing_is_of_no_use) {
  EXPECT_EQ(watch_.due(), now_ + 15s);
  now_ += 15s;
  const auto looked = watch_.look(now_);
  ASSERT_FALSE(looked);
  EXPECT_EQ(looked.error().kind, base::ErrorKind::kTimeout);
}

TEST_F(XdsWatchTest, endpoints_that_are_not_said_in_time_hold_nothing_up) {
  clusters({by_eds("orders"), by_eds("pay")});
  endpoints({assignment("orders", {"10.0.0.1"})});
  requests();
  EXPECT_EQ(watch_.due(), now_ + 15s);
  now_ += 15s;
  EXPECT_TRUE(watch_.look(now_));
  EXPECT_TRUE(watch_.settled());
  EXPECT_EQ(update(), "orders 10.0.0.1");
  EXPECT_THAT(notes(), ElementsAre("endpoints of 'pay' were not said in time"));
  endpoints({assignment("pay", {"10.0.0.2"})});
  EXPECT_EQ(update(), "orders 10.0.0.1; pay 10.0.0.2") << "late is not never";
}

TEST_F(XdsWatchTest, a_new_stream_takes_nothing_away_and_asks_for_everything_again) {
  clusters({by_eds("orders"), by_eds("pay")});
  endpoints({assignment("orders", {"10.0.0.1"}), assignment("pay", {"10.0.0.2"})});
  update();
  now_ += 1min;
  watch_.restart(now_);
  EXPECT_FALSE(watch_.settled());
  EXPECT_THAT(requests(), ElementsAre("clusters v= n= [] from node-1"));
  clusters({by_eds("orders"), by_eds("pay")});
  EXPECT_THAT(requests(), ElementsAre("clusters v=c3 n=c3 []", "endpoints v= n= [orders pay]"));
  endpoints({assignment("orders", {"10.0.0.9"})});
  now_ += 15s;
  EXPECT_TRUE(watch_.look(now_));
  EXPECT_TRUE(watch_.settled());
  EXPECT_EQ(update(), "orders 10.0.0.9; pay 10.0.0.2");
}

TEST_F(XdsWatchTest, complaints_are_bounded) {
  std::vector<xds::Assignment> wrong;
  std::vector<xds::Cluster> named;
  for (int i = 0; i < 100; ++i) {
    const std::string name = "pay" + std::string(300, 'y') + std::to_string(i);
    named.push_back(by_eds(name));
    wrong.push_back(assignment(name, {"nowhere"}));
  }
  clusters(named);
  requests();
  endpoints(wrong);
  const auto said = requests();
  ASSERT_EQ(said.size(), 1U);
  const std::string why = said[0].substr(said[0].find("refused: "));
  EXPECT_LT(why.size(), 2000U);
  EXPECT_THAT(why, HasSubstr("and 95 more"));
}

}  // namespace
}  // namespace mesh::discovery
