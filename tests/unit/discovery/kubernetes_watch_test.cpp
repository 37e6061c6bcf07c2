// SPDX-License-Identifier: Apache-2.0
#include "discovery/kubernetes_watch.hpp"

#include <gtest/gtest.h>

namespace mesh::discovery::kubernetes {
namespace {

using namespace std::chrono_literals;
using base::ErrorKind;

class KubernetesWatch : public testing::Test {
 protected:
  static base::Error error(ErrorKind kind = ErrorKind::kUnavailable) { return {kind, "trouble", "", 0}; }
  static Event event(std::string version, EventType type = EventType::kModified) {
    Event made{.type = type};
    made.object.meta.resource_version = std::move(version);
    return made;
  }
  /// Brings it to a watch from version 100.
  void list() {
    ASSERT_TRUE(steps_.on_page({.kind = "ServiceList", .resource_version = "100"}));
    steps_.on_watch_start(now_);
  }
  ListWatch::Next status(int code, std::optional<std::chrono::seconds> retry_after = {},
                         ErrorKind kind = ErrorKind::kUnavailable) {
    return steps_.on_status({.code = code}, retry_after, error(kind), now_, random_);
  }

  ListWatch steps_{"/api/v1/services", "mesh=on"};
  base::TimePoint now_{1h};
  base::Random random_{7};
};

TEST_F(KubernetesWatch, lists_page_by_page_then_watches_from_the_lists_version) {
  EXPECT_EQ(steps_.target(300), "/api/v1/services?labelSelector=mesh%3Don&limit=500");
  EXPECT_TRUE(steps_.at_first_page());
  EXPECT_FALSE(steps_.on_page({.resource_version = "90", .next = "a/b=="}));
  EXPECT_FALSE(steps_.at_first_page() || steps_.listed() || steps_.watching());
  EXPECT_EQ(steps_.target(300), "/api/v1/services?labelSelector=mesh%3Don&limit=500&continue=a%2Fb%3D%3D");
  EXPECT_TRUE(steps_.on_page({.resource_version = "100"}));
  EXPECT_TRUE(steps_.listed() && steps_.watching());
  EXPECT_EQ(steps_.target(300),
            "/api/v1/services?labelSelector=mesh%3Don&watch=1&resourceVersion=100&allowWatchBookmarks=true&"
            "timeoutSeconds=300");
}

TEST_F(KubernetesWatch, goes_on_after_the_last_event_or_bookmark) {
  list();
  steps_.on_event(event("101"), now_);
  steps_.on_event(event("340282366920938463463374607431768211456", EventType::kBookmark), now_);
  const auto next = steps_.on_watch_end(now_, random_);
  EXPECT_EQ(next.wait, 0ms);
  EXPECT_FALSE(next.error);
  EXPECT_TRUE(steps_.target(300).contains("resourceVersion=340282366920938463463374607431768211456&"))
      << "a version is text";
}

TEST_F(KubernetesWatch, the_end_of_a_watch_is_normal_unless_it_just_began) {
  list();
  now_ += 5min;
  EXPECT_EQ(steps_.on_watch_end(now_, random_).wait, 0ms);
  std::chrono::milliseconds longest{0};
  for (unsigned i = 0; i < kMaxFailures; ++i) {
    steps_.on_watch_start(now_);
    const auto next = steps_.on_watch_end(now_, random_);
    ASSERT_TRUE(next.wait);
    EXPECT_GT(*next.wait, 0ms);
    EXPECT_EQ(next.error.has_value(), i > 0);
    longest = std::max(longest, *next.wait);
  }
  EXPECT_LE(longest, 30s);
  steps_.on_watch_start(now_);
  EXPECT_FALSE(steps_.on_watch_end(now_, random_).wait) << "everything begins anew";
}

TEST_F(KubernetesWatch, gone_means_a_new_list) {
  list();
  const auto next = status(410);
  EXPECT_EQ(next.wait, 0ms);
  EXPECT_FALSE(next.error) << "it is the ordinary way";
  EXPECT_FALSE(steps_.watching());
  EXPECT_TRUE(steps_.at_first_page());
  EXPECT_TRUE(steps_.listed()) << "what is known stays whole";
  EXPECT_EQ(steps_.target(300), "/api/v1/services?labelSelector=mesh%3Don&limit=500");
  ASSERT_TRUE(steps_.on_page({.resource_version = "200"}));
  steps_.on_watch_start(now_);
  const auto again = status(410);
  EXPECT_GT(*again.wait, 0ms) << "gone at once again: don't hammer";
  EXPECT_TRUE(again.error);
}

TEST_F(KubernetesWatch, a_version_the_server_does_not_have_yet_means_a_new_list) {
  list();
  EXPECT_EQ(
      steps_
          .on_status({.code = 504, .reason = "Timeout", .message = "Too large resource version: 200, current: 100"}, {},
                     error(), now_, random_)
          .wait,
      0ms);
  EXPECT_TRUE(steps_.at_first_page());
}

TEST_F(KubernetesWatch, pages_that_expire_are_asked_for_as_one) {
  EXPECT_FALSE(steps_.on_page({.resource_version = "90", .next = "more"}));
  EXPECT_EQ(status(410).wait, 0ms);
  EXPECT_EQ(steps_.target(300), "/api/v1/services?labelSelector=mesh%3Don");
  EXPECT_TRUE(steps_.on_page({.resource_version = "100"}));
  EXPECT_EQ(status(410).wait.has_value(), true);
  EXPECT_TRUE(steps_.target(300).contains("limit=500")) << "the next list is paged again";
}

TEST_F(KubernetesWatch, retry_after_is_a_floor) {
  list();
  const auto next = status(429, 7s);
  EXPECT_GE(*next.wait, 7s);
  EXPECT_TRUE(next.error);
  EXPECT_TRUE(steps_.watching()) << "it goes on where it was";
  const auto said = steps_.on_status({.code = 503, .retry_after = 9s}, {}, error(), now_, random_);
  EXPECT_GE(*said.wait, 9s);
}

TEST_F(KubernetesWatch, a_lost_connection_is_tried_again_from_the_same_version) {
  list();
  for (unsigned i = 0; i < kMaxFailures; ++i) {
    const auto next = steps_.on_error(error(), now_, random_);
    ASSERT_TRUE(next.wait && next.error);
    EXPECT_TRUE(steps_.target(300).contains("resourceVersion=100&"));
  }
  EXPECT_FALSE(steps_.on_error(error(), now_, random_).wait);
  steps_.on_event(event("101"), now_);
  EXPECT_TRUE(steps_.on_error(error(), now_, random_).wait) << "an event ends the series";
}

TEST_F(KubernetesWatch, what_trying_again_can_not_help_ends_it) {
  EXPECT_FALSE(steps_.on_error(error(), now_, random_).wait) << "a list";
  EXPECT_FALSE(status(429, 1s).wait) << "a list";
  list();
  EXPECT_FALSE(status(403, {}, ErrorKind::kPermission).wait);
  EXPECT_FALSE(steps_.on_error(error(ErrorKind::kInvalid), now_, random_).wait) << "garbage";
}

}  // namespace
}  // namespace mesh::discovery::kubernetes
