// SPDX-License-Identifier: Apache-2.0
#include "acme/answers.hpp"

#include <gtest/gtest.h>

namespace mesh::acme {
namespace {

const std::string kOrderRest = R"("finalize":"https://ca/f","authorizations":["https://ca/a"]})";

TEST(AcmeAnswers, a_directory_needs_its_three_urls_over_https) {
  const std::string good =
      R"({"newNonce":"https://ca/n","newAccount":"https://ca/a","newOrder":"https://ca/o","renewalInfo":"https://ca/r",
          "meta":{"termsOfService":"https://ca/terms","externalAccountRequired":true}})";
  const auto directory = parse_directory(good);
  ASSERT_TRUE(directory) << directory.error().to_string();
  EXPECT_EQ(directory->renewal_info, "https://ca/r");
  EXPECT_EQ(directory->terms, "https://ca/terms");
  EXPECT_TRUE(directory->binding_required);
  for (const std::string& wrong :
       {std::string(), std::string("[]"), std::string("<html>"),
        std::string(R"({"newNonce":"http://ca/n","newAccount":"https://ca/a","newOrder":"https://ca/o"})"),
        std::string(R"({"newNonce":"https://ca/n","newAccount":7,"newOrder":"https://ca/o"})"),
        std::string(R"({"newNonce":"https://ca/\nHost: x","newAccount":"https://ca/a","newOrder":"https://ca/o"})")}) {
    EXPECT_FALSE(parse_directory(wrong)) << wrong;
  }
}

TEST(AcmeAnswers, an_order_has_a_status_and_what_it_needs_in_it) {
  EXPECT_EQ(parse_order("{\"status\":\"pending\"," + kOrderRest)->status, Status::kPending);
  EXPECT_EQ(parse_order("{\"status\":\"processing\"," + kOrderRest)->status, Status::kProcessing);
  EXPECT_EQ(parse_order(R"({"status":"valid","certificate":"https://ca/c",)" + kOrderRest)->certificate,
            "https://ca/c");
  EXPECT_FALSE(parse_order("{\"status\":\"valid\"," + kOrderRest)) << "no certificate";
  EXPECT_FALSE(parse_order("{\"status\":\"fine\"," + kOrderRest));
  EXPECT_FALSE(parse_order(R"({"status":"pending","finalize":"https://ca/f","authorizations":[]})"));
  EXPECT_FALSE(parse_order(R"({"status":"pending","finalize":"https://ca/f","authorizations":["ftp://ca"]})"));
  const auto refused = parse_order(
      R"({"status":"invalid","error":{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many"},)" +
      kOrderRest);
  EXPECT_EQ(refused->error->type, "rateLimited");
}

TEST(AcmeAnswers, of_an_authorization_only_known_challenges_are_read) {
  const auto read = parse_authorization(
      R"({"status":"pending","identifier":{"type":"dns","value":"a.test"},"challenges":[
          {"type":"dns-01","url":7},{"type":"http-01","url":"https://ca/c","token":"abc_-1","status":"pending"}]})");
  ASSERT_TRUE(read) << read.error().to_string();
  ASSERT_EQ(read->challenges.size(), 2U);
  EXPECT_EQ(read->challenges[1].token, "abc_-1");
  for (const std::string token : {"", "../../etc", "a b", "a\\nb"}) {
    EXPECT_FALSE(parse_authorization(R"({"status":"pending","identifier":{"type":"dns","value":"a.test"},"challenges":[
        {"type":"http-01","url":"https://ca/c","status":"pending","token":")" +
                                     token + "\"}]}"))
        << token;
  }
  EXPECT_FALSE(parse_authorization(R"({"status":"pending","identifier":{"type":"ip","value":"10.0.0.1"}})"));
  EXPECT_EQ(parse_authorization(R"({"status":"revoked","identifier":{"type":"dns","value":"a.test"}})")->status,
            Status::kInvalid);
}

TEST(AcmeAnswers, problems_name_their_parts_are_cut_and_hold_no_control_characters) {
  const Problem problem = parse_problem(
      R"({"type":"urn:ietf:params:acme:error:malformed","detail":"some\nnames",
          "subproblems":[{"detail":"no","identifier":{"value":"b.test"}},7]})");
  EXPECT_EQ(problem.type, "malformed");
  EXPECT_EQ(problem.detail, "some names; b.test: no");
  EXPECT_EQ(parse_problem("<html>\x1b[31m").detail, "<html> [31m");
  EXPECT_LE(parse_problem(std::string(5000, 'x')).detail.size(), kTextMax);
}

TEST(AcmeAnswers, a_window_has_an_end_after_its_start) {
  const auto window = [](const std::string& start, const std::string& end) {
    return parse_renewal_info(R"({"suggestedWindow":{"start":")" + start + R"(","end":")" + end + R"("}})");
  };
  const auto good = window("2025-01-02T04:00:00Z", "2025-01-03T04:00:00.5+01:00");
  ASSERT_TRUE(good);
  EXPECT_EQ(good->start, base::WallTime{std::chrono::seconds(1'735'790'400)});
  EXPECT_EQ(good->end - good->start, std::chrono::hours(23));
  EXPECT_FALSE(window("2025-01-02T04:00:00Z", "2025-01-02T04:00:00Z"));
  for (const std::string wrong : {"", "2025-01-02", "2025-01-02T04:00:00", "2025-13-02T04:00:00Z",
                                  "2025-01-02T04:00:00+9", "9999-01-02T04:00:00Z", "2025-01-02T04:00:00.Zx"}) {
    EXPECT_FALSE(window(wrong, "2026-01-02T04:00:00Z")) << wrong;
  }
}

}  // namespace
}  // namespace mesh::acme
