// SPDX-License-Identifier: Apache-2.0
#include "relay/challenge_server.hpp"

#include <gtest/gtest.h>

namespace mesh::relay {
namespace {

TEST(ChallengeServer, answers_what_waits_and_nothing_else) {
  acme::Board board;
  board.set_token("token", "token.thumbprint");
  const auto answer = [&](const std::string& method, const std::string& target) {
    const http::Response response = challenge_response({.method = method, .target = target}, board);
    return std::to_string(response.status) + " " + response.body;
  };
  EXPECT_EQ(answer("GET", "/.well-known/acme-challenge/token"), "200 token.thumbprint");
  for (const char* target : {"/", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/other",
                             "/.well-known/acme-challenge/../acme-challenge/token", "/token"}) {
    EXPECT_EQ(answer("GET", target), "404 ") << target;
  }
  EXPECT_EQ(answer("POST", "/.well-known/acme-challenge/token"), "405 ");
  board.clear_tokens();
  EXPECT_EQ(answer("GET", "/.well-known/acme-challenge/token"), "404 ");
}

}  // namespace
}  // namespace mesh::relay
