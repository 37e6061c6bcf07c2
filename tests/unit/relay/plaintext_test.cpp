// SPDX-License-Identifier: Apache-2.0
#include "relay/plaintext.hpp"

#include <gtest/gtest.h>

#include "base/rfc3339.hpp"

namespace mesh::relay {
namespace {

using std::chrono::seconds;

base::WallTime at(std::string_view text) { return base::parse_rfc3339(text).value(); }

MeshService permissive(const std::string& until) {
  return {.service = "web", .allow = {}, .plaintext = Plaintext::kPermissive, .permissive_until = until};
}

TEST(Plaintext, a_day_ends_with_it_and_a_moment_is_one) {
  EXPECT_EQ(permission_end("2026-12-31"), at("2027-01-01T00:00:00Z"));
  EXPECT_EQ(permission_end("2028-02-29"), at("2028-03-01T00:00:00Z"));
  EXPECT_EQ(permission_end("2026-12-31T18:00:00Z"), at("2026-12-31T18:00:00Z"));
  EXPECT_EQ(permission_end("2026-12-31T18:00:00+02:00"), at("2026-12-31T16:00:00Z"));
  for (const char* text : {"", "soon", "2026-12-32", "2026-02-29", "31.12.2026", "2026-12-31T18:00:00", "2026-1-1"}) {
    EXPECT_EQ(permission_end(text), std::nullopt) << text;
  }
}

TEST(Plaintext, is_taken_until_the_end_and_from_then_on_refused) {
  const MeshService service = permissive("2026-12-31");
  const base::WallTime end = at("2027-01-01T00:00:00Z");
  EXPECT_TRUE(judge_plaintext(service, end - seconds(1)).taken);
  EXPECT_FALSE(judge_plaintext(service, end).taken);
  EXPECT_FALSE(judge_plaintext(service, end + std::chrono::days(1000)).taken);
  EXPECT_EQ(judge_plaintext(service, end).end, end);
  EXPECT_FALSE(judge_plaintext(permissive("who knows"), end).taken);
}

TEST(Plaintext, without_permission_there_is_no_end) {
  EXPECT_TRUE(judge_plaintext({.service = "web"}, at("2026-12-31T18:00:00Z")).taken);
  const auto refused = judge_plaintext({.service = "web", .plaintext = Plaintext::kRefuse}, at("2026-12-31T18:00:00Z"));
  EXPECT_FALSE(refused.taken);
  EXPECT_EQ(refused.end, std::nullopt);
}

}  // namespace
}  // namespace mesh::relay
