// SPDX-License-Identifier: Apache-2.0
#include "xds/session.hpp"

#include <gtest/gtest.h>

namespace mesh::xds {
namespace {

class SessionTest : public testing::Test {
 protected:
  /// A world in which these services have these endpoints, one each; empty: none.
  void give(const std::map<std::string, std::string>& services) {
    ++world_.version;
    world_.services.clear();
    for (const auto& [name, address] : services) {
      auto served = std::make_shared<Served>();
      served->name = name;
      served->assignment.name = name;
      if (!address.empty()) {
        served->assignment.localities.push_back({.weight = 1, .endpoints = {{.address = address, .port = 80}}});
      }
      world_.services[name] = std::move(served);
    }
  }
  Session::Taken ask(Type type, std::vector<std::string> names, std::string nonce = "",
                     std::optional<std::string> error = std::nullopt) {
    return session_.take(
        {.type = type, .version = {}, .nonce = std::move(nonce), .error = std::move(error), .names = std::move(names)});
  }
  /// "clusters v1 n1: orders:80 pay:80", of endpoints with their address; "nothing".
  std::string next() {
    const auto reply = session_.next(world_);
    if (!reply) return "nothing";
    std::string text = std::string(to_string(reply->type)) + " v" + reply->version + " n" + reply->nonce + ":";
    for (const Reply::Resource& one : reply->resources) {
      text += " " + one.name;
      if (reply->type != Type::kEndpoints) continue;
      const bool any = one.served && !one.served->assignment.localities.empty();
      text += "=" + (any ? one.served->assignment.localities[0].endpoints[0].address : "none");
    }
    return text;
  }

  World world_;
  Session session_;
};

TEST_F(SessionTest, nothing_is_said_unasked_and_nothing_twice) {
  give({{"orders:80", "10.0.0.1"}});
  EXPECT_EQ(next(), "nothing");
  ask(Type::kEndpoints, {"orders:80"});
  EXPECT_EQ(next(), "endpoints v1 n1: orders:80=10.0.0.1");
  EXPECT_EQ(next(), "nothing");
  EXPECT_EQ(ask(Type::kEndpoints, {"orders:80"}, "1"), Session::Taken::kAccepted);
  EXPECT_EQ(next(), "nothing");
  give({{"orders:80", "10.0.0.1"}});
  EXPECT_EQ(next(), "nothing") << "a new version of the world says the same about it";
}

TEST_F(SessionTest, of_endpoints_only_what_changed_is_said_and_only_after_the_last_answer_was_taken) {
  give({{"orders:80", "10.0.0.1"}, {"pay:80", "10.0.0.2"}});
  ask(Type::kEndpoints, {"orders:80", "pay:80"});
  EXPECT_EQ(next(), "endpoints v1 n1: orders:80=10.0.0.1 pay:80=10.0.0.2");
  give({{"orders:80", "10.0.0.3"}, {"pay:80", "10.0.0.2"}});
  EXPECT_EQ(next(), "nothing") << "it has not said what it thinks of the last one";
  give({{"orders:80", "10.0.0.4"}, {"pay:80", "10.0.0.2"}});
  ask(Type::kEndpoints, {"orders:80", "pay:80"}, "1");
  EXPECT_EQ(next(), "endpoints v3 n2: orders:80=10.0.0.4") << "the newest, once";
}

TEST_F(SessionTest, a_service_that_goes_has_no_endpoints_and_one_that_never_was_is_not_answered) {
  give({{"orders:80", "10.0.0.1"}});
  ask(Type::kEndpoints, {"orders:80", "nowhere:80"});
  EXPECT_EQ(next(), "endpoints v1 n1: orders:80=10.0.0.1");
  ask(Type::kEndpoints, {"orders:80", "nowhere:80"}, "1");
  give({});
  EXPECT_EQ(next(), "endpoints v2 n2: orders:80=none");
  ask(Type::kEndpoints, {"orders:80", "nowhere:80"}, "2");
  EXPECT_EQ(next(), "nothing");
  give({{"nowhere:80", "10.0.0.9"}});
  EXPECT_EQ(next(), "endpoints v3 n3: nowhere:80=10.0.0.9");
}

TEST_F(SessionTest, a_name_that_is_asked_for_again_is_answered_again) {
  give({{"orders:80", "10.0.0.1"}, {"pay:80", "10.0.0.2"}});
  ask(Type::kEndpoints, {"orders:80"});
  next();
  ask(Type::kEndpoints, {"pay:80"}, "1");
  EXPECT_EQ(next(), "endpoints v1 n2: pay:80=10.0.0.2");
  ask(Type::kEndpoints, {"orders:80", "pay:80"}, "2");
  EXPECT_EQ(next(), "endpoints v1 n3: orders:80=10.0.0.1");
}

TEST_F(SessionTest, clusters_are_said_all_together_before_their_endpoints) {
  give({{"orders:80", "10.0.0.1"}, {"pay:80", "10.0.0.2"}});
  ask(Type::kCluster, {});
  EXPECT_EQ(next(), "clusters v1 n1: orders:80 pay:80");
  ask(Type::kEndpoints, {"orders:80", "pay:80"});
  EXPECT_EQ(next(), "endpoints v1 n2: orders:80=10.0.0.1 pay:80=10.0.0.2");
  ask(Type::kCluster, {}, "1");
  ask(Type::kEndpoints, {"orders:80", "pay:80"}, "2");
  EXPECT_EQ(next(), "nothing");
  give({{"pay:80", "10.0.0.3"}, {"web:80", "10.0.0.4"}});
  EXPECT_EQ(next(), "clusters v2 n3: pay:80 web:80");
  EXPECT_EQ(next(), "endpoints v2 n4: orders:80=none pay:80=10.0.0.3");
}

TEST_F(SessionTest, clusters_by_name_and_listeners_have_the_names_that_were_asked_for) {
  give({{"orders:80", "10.0.0.1"}, {"pay:80", "10.0.0.2"}});
  world_.domain = "mesh";
  ask(Type::kListener, {"orders.mesh", "nowhere"});
  EXPECT_EQ(next(), "listeners v1 n1: orders.mesh");
  ask(Type::kCluster, {"pay:80"});
  EXPECT_EQ(next(), "clusters v1 n2: pay:80");
  ask(Type::kListener, {"orders.mesh", "nowhere"}, "1");
  give({{"nowhere:80", ""}});
  EXPECT_EQ(next(), "listeners v2 n3: nowhere");
}

TEST_F(SessionTest, a_name_that_is_nowhere_is_answered_at_once_among_clusters_and_listeners) {
  ask(Type::kListener, {"nowhere"});
  EXPECT_EQ(next(), "listeners v0 n1:");
  EXPECT_EQ(next(), "nothing");
}

TEST_F(SessionTest, all_listeners_are_none) {
  give({{"orders:80", "10.0.0.1"}});
  ask(Type::kListener, {});
  EXPECT_EQ(next(), "listeners v1 n1:");
}

TEST_F(SessionTest, an_old_nonce_is_ignored) {
  give({{"orders:80", "10.0.0.1"}});
  ask(Type::kEndpoints, {"orders:80"});
  next();
  EXPECT_EQ(ask(Type::kEndpoints, {"pay:80"}, "0"), Session::Taken::kAsked);
  give({{"orders:80", "10.0.0.2"}});
  EXPECT_EQ(next(), "nothing") << "the last answer is still open";
}

TEST_F(SessionTest, a_refusal_is_told_once_and_the_same_is_not_said_again) {
  give({{"orders:80", "10.0.0.1"}});
  session_.take({.type = Type::kEndpoints, .names = {"orders:80"}, .node = Node{.id = "app-1"}});
  next();
  EXPECT_EQ(ask(Type::kEndpoints, {"orders:80"}, "1", "no such thing"), Session::Taken::kRefused);
  const auto refusal = session_.take_refusal();
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->version, "1");
  EXPECT_EQ(refusal->why, "no such thing");
  EXPECT_FALSE(session_.take_refusal());
  EXPECT_EQ(session_.node().id, "app-1");
  EXPECT_EQ(next(), "nothing");
  give({{"orders:80", "10.0.0.2"}});
  EXPECT_EQ(next(), "endpoints v2 n2: orders:80=10.0.0.2");
}

TEST_F(SessionTest, too_many_names_end_the_stream) {
  EXPECT_EQ(ask(Type::kEndpoints, std::vector<std::string>(kMaxNames + 1, "a")), Session::Taken::kTooMuch);
}

}  // namespace
}  // namespace mesh::xds
