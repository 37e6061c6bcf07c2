// SPDX-License-Identifier: Apache-2.0
#include "http/h1_server.hpp"

#include <gtest/gtest.h>

namespace mesh::http {
namespace {

void feed(ServerSession& session, std::string_view text) { session.feed(std::as_bytes(std::span(text))); }

TEST(ServerSession, a_request_is_the_same_however_its_bytes_are_split) {
  const std::string_view text =
      "POST /v1/pause?for=10m HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nX-A: b c\r\n\r\nbody";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    ServerSession session;
    feed(session, text.substr(0, cut));
    auto request = session.next();
    EXPECT_EQ(request.has_value(), cut == text.size()) << cut;
    if (!request) {
      feed(session, text.substr(cut));
      request = session.next();
    }
    ASSERT_TRUE(request) << cut;
    EXPECT_EQ(request->method, "POST");
    EXPECT_EQ(request->target, "/v1/pause?for=10m");
    EXPECT_EQ(request->body, "body");
    ASSERT_NE(find_header(request->headers, "x-a"), nullptr);
    EXPECT_EQ(*find_header(request->headers, "x-a"), "b c");
    EXPECT_EQ(find_header(request->headers, "x"), nullptr);
    EXPECT_TRUE(request->keep_alive);
    EXPECT_TRUE(session.idle());
    EXPECT_FALSE(session.next());
  }
}

TEST(ServerSession, pipelined_requests_come_one_by_one_in_order) {
  ServerSession session;
  feed(session, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /3 HT");
  EXPECT_EQ(session.next()->target, "/1");
  const auto second = session.next();
  EXPECT_EQ(second->target, "/2");
  EXPECT_FALSE(second->keep_alive);
  EXPECT_FALSE(session.next());
  EXPECT_FALSE(session.idle());
  EXPECT_FALSE(session.refusal());
}

TEST(ServerSession, a_chunked_body_is_put_together) {
  ServerSession session;
  feed(session, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
  EXPECT_EQ(session.next()->body, "abcde");
}

TEST(ServerSession, an_empty_chunked_body_with_a_trailer_may_come_byte_by_byte) {
  const std::string_view text = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n";
  ServerSession session;
  for (std::size_t i = 0; i < text.size(); ++i) {
    EXPECT_FALSE(session.next());
    feed(session, text.substr(i, 1));
  }
  EXPECT_TRUE(session.next());
}

TEST(ServerSession, broken_protocol_and_broken_limits_are_refused_with_their_status) {
  const ServerLimits limits{.header_bytes = 256, .body_bytes = 16, .pipelined_bytes = 1024};
  const struct {
    std::string_view what;
    std::string text;
    unsigned status;
  } cases[] = {
      {"not HTTP", "\x16\x03\x01 hello\r\n\r\n", 400},
      {"length and chunks", "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"two lengths", "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 400},
      {"endless header", "GET / HTTP/1.1\r\nX: " + std::string(300, 'a'), 431},
      {"header over the limit", "GET / HTTP/1.1\r\nX: " + std::string(300, 'a') + "\r\n\r\n", 431},
      {"announced body", "POST / HTTP/1.1\r\nContent-Length: 17\r\n\r\n", 413},
      {"chunked body", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n" + std::string(32, 'b'), 413},
      {"flood", "GET / HTTP/1.1\r\n" + std::string(2000, 'c'), 413},
  };
  for (const auto& [what, text, status] : cases) {
    ServerSession session(limits);
    feed(session, text);
    EXPECT_FALSE(session.next()) << what;
    EXPECT_EQ(session.refusal(), status) << what;
    feed(session, "GET / HTTP/1.1\r\n\r\n");
    EXPECT_FALSE(session.next()) << what << ": nothing is read after a refusal";
  }
}

TEST(Render, says_length_type_and_close_and_cannot_be_split_by_a_header_value) {
  EXPECT_EQ(render({.status = 404, .body = "{}"}, {}),
            "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
  EXPECT_EQ(
      render({.content_type = "", .headers = {{"X", "a\r\nB: c"}}, .body = "hi"}, {.keep_alive = false, .head = true}),
      "HTTP/1.1 200 OK\r\nX: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\n");
}

}  // namespace
}  // namespace mesh::http
