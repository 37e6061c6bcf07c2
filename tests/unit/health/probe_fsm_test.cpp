// SPDX-License-Identifier: Apache-2.0
#include "health/probe_fsm.hpp"

#include <gtest/gtest.h>

#include "base/random.hpp"

namespace mesh::health {
namespace {

using namespace std::chrono_literals;
using model::ProbeReason;
using model::Verdict;

base::WallTime at(int seconds) { return base::WallTime(std::chrono::seconds(seconds)); }

/// Results as letters: + success, - refused, ! this node's own trouble. Verdicts after each: u d ?
TEST(ProbeFsm, rise_fall_first_sight_and_local_trouble) {
  const model::ProbePolicy policy{.rise = 2, .fall = 3};
  const struct {
    std::string_view what, results, verdicts;
  } cases[] = {
      {"one success at first sight is enough", "+", "u"},
      {"falls after three", "+---", "uuud"},
      {"a success in between starts the count anew", "+--+--+---", "uuuuuuuuud"},
      {"rises after two", "+---++", "uuuddu"},
      {"a failure in between starts the rise anew", "+---+-++", "uuuddddu"},
      {"unknown stays unknown until one success or three failures", "--+", "??u"},
      {"never up", "-----", "??ddd"},
      {"own trouble says nothing", "!!!!", "????"},
      {"own trouble neither counts nor starts anew", "+-!-!-", "uuuuud"},
  };
  for (const auto& [what, results, verdicts] : cases) {
    ProbeFsm fsm;
    for (std::size_t i = 0; i < results.size(); ++i) {
      const Verdict before = fsm.verdict();
      const auto reason = results[i] == '+'   ? ProbeReason::kOk
                          : results[i] == '-' ? ProbeReason::kRefused
                                              : ProbeReason::kLocal;
      const auto change = fsm.on_result(policy, reason, "x", at(static_cast<int>(i)));
      const Verdict expected = verdicts[i] == 'u'   ? Verdict::kUp
                               : verdicts[i] == 'd' ? Verdict::kDown
                                                    : Verdict::kUnknown;
      EXPECT_EQ(fsm.verdict(), expected) << what << " at " << i;
      EXPECT_EQ(change == ProbeFsm::Change::kVerdict, before != expected) << what << " at " << i;
      EXPECT_EQ(fsm.record().reason, reason);
      EXPECT_EQ(fsm.record().checked_at, at(static_cast<int>(i)));
      if (before != expected) EXPECT_EQ(fsm.record().since, at(static_cast<int>(i)));
    }
  }
}

TEST(ProbeFsm, is_in_transition_while_the_last_result_speaks_against_the_verdict) {
  const model::ProbePolicy policy{.rise = 2, .fall = 3};
  ProbeFsm fsm;
  EXPECT_TRUE(fsm.in_transition());
  const auto next = [&](ProbeReason reason) {
    fsm.on_result(policy, reason, {}, at(1));
    return fsm.in_transition();
  };
  EXPECT_FALSE(next(ProbeReason::kOk));
  EXPECT_TRUE(next(ProbeReason::kTimeout));
  EXPECT_TRUE(next(ProbeReason::kLocal));
  EXPECT_TRUE(next(ProbeReason::kTimeout));
  EXPECT_FALSE(next(ProbeReason::kTimeout));  // down
  EXPECT_TRUE(next(ProbeReason::kOk));
  EXPECT_FALSE(next(ProbeReason::kOk));  // up
}

TEST(ProbeFsm, a_restored_endpoint_does_not_flap) {
  const model::ProbePolicy policy{.rise = 2, .fall = 3};
  auto up = ProbeFsm::restored({.verdict = Verdict::kUp, .reason = ProbeReason::kOk, .streak = 7, .since = at(5)});
  EXPECT_EQ(up.on_result(policy, ProbeReason::kRefused, {}, at(9)), ProbeFsm::Change::kNone);
  EXPECT_EQ(up.on_result(policy, ProbeReason::kOk, {}, at(10)), ProbeFsm::Change::kNone);
  EXPECT_EQ(up.record().since, at(5));
  auto down = ProbeFsm::restored({.verdict = Verdict::kDown, .reason = ProbeReason::kRefused, .streak = 7});
  EXPECT_EQ(down.on_result(policy, ProbeReason::kOk, {}, at(9)), ProbeFsm::Change::kNone);
  EXPECT_EQ(down.on_result(policy, ProbeReason::kOk, {}, at(10)), ProbeFsm::Change::kVerdict);
}

TEST(ProbeFsm, verdict_is_the_one_of_a_plain_count_whatever_the_results) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    base::Random random(seed);
    const model::ProbePolicy policy{.rise = 1 + static_cast<unsigned>(random.below(4)),
                                    .fall = 1 + static_cast<unsigned>(random.below(4))};
    ProbeFsm fsm;
    Verdict expected = Verdict::kUnknown;
    unsigned successes = 0;
    unsigned failures = 0;
    for (int i = 0; i < 300; ++i) {
      const bool success = random.below(2) == 0;
      (success ? successes : failures) += 1;
      (success ? failures : successes) = 0;
      if (failures >= policy.fall) expected = Verdict::kDown;
      if (successes >= policy.rise || (success && expected == Verdict::kUnknown)) expected = Verdict::kUp;
      fsm.on_result(policy, success ? ProbeReason::kOk : ProbeReason::kStatus, {}, at(i));
      ASSERT_EQ(fsm.verdict(), expected) << i;
      ASSERT_EQ(fsm.record().streak, std::max(successes, failures));
    }
  }
}

TEST(Spacing, is_never_longer_than_the_interval_and_never_earlier_than_the_jitter) {
  base::Random random(1);
  const model::ProbePolicy policy{.interval = 5000ms, .fast_interval = 1000ms, .jitter_percent = 10};
  base::Duration least = 10s;
  base::Duration most = 0s;
  for (int i = 0; i < 10000; ++i) {
    const auto settled = spacing(policy, false, random.next());
    least = std::min(least, settled);
    most = std::max(most, settled);
    const auto fast = spacing(policy, true, random.next());
    EXPECT_LE(fast, 1000ms);
    EXPECT_GE(fast, 900ms);
  }
  EXPECT_GE(least, 4500ms);
  EXPECT_LT(least, 4510ms);
  EXPECT_LE(most, 5000ms);
  EXPECT_GT(most, 4990ms);
  EXPECT_LE(spacing({.interval = 500ms, .fast_interval = 1000ms}, true, 0), 500ms);
}

TEST(FirstSpacing, spreads_endpoints_over_the_interval_and_differs_between_nodes) {
  const model::ProbePolicy policy{.interval = 1000ms};
  std::array<int, 10> buckets{};
  int same = 0;
  for (std::uint16_t port = 1; port <= 1000; ++port) {
    const base::SocketAddress address{.ip = {}, .port = port};
    const auto phase = first_spacing(policy, endpoint_seed(1, address));
    EXPECT_GT(phase, 0s);
    EXPECT_LE(phase, 1s);
    EXPECT_EQ(phase, first_spacing(policy, endpoint_seed(1, address)));
    ++buckets[static_cast<std::size_t>((phase.count() - 1) / 100'000'000)];
    if (std::chrono::abs(phase - first_spacing(policy, endpoint_seed(2, address))) < 1ms) ++same;
  }
  for (const int count : buckets) {
    EXPECT_GT(count, 60);
    EXPECT_LT(count, 140);
  }
  EXPECT_LT(same, 20);
}

}  // namespace
}  // namespace mesh::health
