// SPDX-License-Identifier: Apache-2.0
#include "acme/schedule.hpp"

#include <gtest/gtest.h>

namespace mesh::acme {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;

const base::WallTime kBegins{hours(24 * 20'000)};
const Validity kNinetyDays{kBegins, kBegins + hours(90 * 24)};

TEST(AcmeSchedule, without_a_certificate_at_once_with_one_at_two_thirds_of_its_life) {
  Schedule schedule(seconds(0));
  EXPECT_LE(schedule.due(), kBegins);
  EXPECT_FALSE(schedule.ask_at());
  schedule.hold(kNinetyDays);
  EXPECT_EQ(schedule.due(), kBegins + hours(60 * 24));
  EXPECT_LE(*schedule.ask_at(), kBegins) << "a window is asked for at once";
  Schedule early(hours(40 * 24));
  early.hold(kNinetyDays);
  EXPECT_EQ(early.due(), kBegins + hours(50 * 24));
}

TEST(AcmeSchedule, renew_before_longer_than_the_life_does_not_renew_without_a_pause) {
  Schedule schedule(hours(24 * 365));
  schedule.hold(kNinetyDays);
  EXPECT_EQ(schedule.due(), kBegins + hours(1));
  schedule.hold(Validity{kBegins, kBegins + minutes(30)});
  EXPECT_EQ(schedule.due(), kBegins + minutes(10));
}

TEST(AcmeSchedule, a_random_moment_of_the_window_that_stays_until_the_window_changes) {
  base::Random random(7);
  const Window window{kBegins + hours(24), kBegins + hours(48)};
  base::WallTime first = window.end, last = window.start;
  for (int i = 0; i < 200; ++i) {
    Schedule schedule(seconds(0));
    schedule.hold(kNinetyDays);
    schedule.suggested(window, std::nullopt, kBegins, random);
    const base::WallTime picked = schedule.due();
    EXPECT_GE(picked, window.start);
    EXPECT_LT(picked, window.end);
    first = std::min(first, picked);
    last = std::max(last, picked);
    schedule.suggested(window, std::nullopt, kBegins, random);
    EXPECT_EQ(schedule.due(), picked);
    schedule.not_suggested(std::nullopt, kBegins);
    EXPECT_EQ(schedule.due(), picked) << "an issuer that is away takes nothing back";
    const Window past{kBegins - hours(48), kBegins - hours(24)};
    schedule.suggested(past, std::nullopt, kBegins, random);
    EXPECT_EQ(schedule.due(), kBegins + hours(1)) << "at once, but for the pause";
    schedule.hold(Validity{kBegins, kBegins + hours(30 * 24)});
    EXPECT_EQ(schedule.due(), kBegins + hours(20 * 24)) << "another certificate has no window yet";
  }
  EXPECT_LT(first, window.start + hours(3));
  EXPECT_GT(last, window.end - hours(3));
}

TEST(AcmeSchedule, the_issuer_says_when_it_is_asked_again_within_bounds) {
  base::Random random(7);
  Schedule schedule(seconds(0));
  schedule.hold(kNinetyDays);
  const Window window{kBegins + hours(24), kBegins + hours(48)};
  const auto next = [&](std::optional<seconds> said) {
    schedule.suggested(window, said, kBegins, random);
    return *schedule.ask_at() - kBegins;
  };
  EXPECT_EQ(next(std::nullopt), kAskAgain);
  EXPECT_EQ(next(seconds(0)), kAskAgainMin);
  EXPECT_EQ(next(hours(3)), hours(3));
  EXPECT_EQ(next(hours(1000)), kAskAgainMax);
}

TEST(AcmeSchedule, failures_back_off_with_jitter_and_not_before_the_issuer_wants_it) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    base::Random random(seed);
    Schedule schedule(seconds(0));
    base::Duration longest{};
    for (int i = 0; i < 20; ++i) {
      schedule.failed(std::nullopt, kBegins, random);
      const base::Duration pause = schedule.due() - kBegins;
      EXPECT_GE(pause, kIssueBackoff.floor);
      EXPECT_LE(pause, kIssueBackoff.cap);
      if (i == 0) EXPECT_LE(pause, kIssueBackoff.base);
      longest = std::max(longest, pause);
    }
    EXPECT_GT(longest, minutes(20)) << "seed " << seed;
    schedule.failed(hours(8), kBegins, random);
    EXPECT_EQ(schedule.due(), kBegins + hours(8));
    schedule.issued();
    EXPECT_LT(schedule.due(), kBegins);
    schedule.failed(std::nullopt, kBegins, random);
    EXPECT_LE(schedule.due() - kBegins, kIssueBackoff.base) << "it begins anew";
  }
}

}  // namespace
}  // namespace mesh::acme
