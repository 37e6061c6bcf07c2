// SPDX-License-Identifier: Apache-2.0
#include "app/used_services.hpp"

#include <gtest/gtest.h>

namespace mesh::app {
namespace {

using Visit = std::function<void(const model::Frontend&, std::uint64_t)>;

class UsedServicesTest : public testing::Test {
 protected:
  UsedServices::SetPtr look(std::chrono::seconds at, std::uint64_t count) {
    return used_.look(base::TimePoint(at), [&](const Visit& visit) { visit(frontend_, count); });
  }
  model::Frontend frontend_{*base::SocketAddress::parse("240.64.0.10:80"), model::Protocol::kTcp};
  UsedServices used_;
};

TEST_F(UsedServicesTest, a_count_from_before_the_start_is_no_use) {
  EXPECT_EQ(look(std::chrono::seconds(1), 17), nullptr);
}

TEST_F(UsedServicesTest, a_moving_count_is_use_until_it_rests_long_enough) {
  look(std::chrono::seconds(1), 0);
  const auto used = look(std::chrono::seconds(2), 1);
  ASSERT_NE(used, nullptr);
  EXPECT_TRUE(used->contains(frontend_));
  EXPECT_EQ(look(std::chrono::seconds(3), 1), nullptr) << "unchanged sets are not told again";
  const auto rested = look(std::chrono::seconds(2) + kUsedFor, 1);
  ASSERT_NE(rested, nullptr);
  EXPECT_TRUE(rested->empty());
}

TEST_F(UsedServicesTest, a_service_that_went_is_forgotten) {
  look(std::chrono::seconds(1), 0);
  look(std::chrono::seconds(2), 1);
  const auto gone = used_.look(base::TimePoint(std::chrono::seconds(3)), [](const Visit&) {});
  ASSERT_NE(gone, nullptr);
  EXPECT_TRUE(gone->empty());
  EXPECT_EQ(look(std::chrono::seconds(4), 5), nullptr) << "its count of old is no use when it comes back";
}

}  // namespace
}  // namespace mesh::app
