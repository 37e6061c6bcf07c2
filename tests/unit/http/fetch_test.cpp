// SPDX-License-Identifier: Apache-2.0
// The pure parts; tests/system/fetch_test.cpp has real servers.
#include "http/fetch.hpp"

#include <gtest/gtest.h>

namespace mesh::http {
namespace {

using namespace std::chrono_literals;

base::WallTime at(std::int64_t unix_seconds) { return base::WallTime(std::chrono::seconds(unix_seconds)); }

TEST(Fetch, retry_after_is_seconds_or_a_date) {
  // 784111777 is the instant of RFC 9110's examples: Sun, 06 Nov 1994 08:49:37 GMT.
  const base::WallTime now = at(784111777 - 20);
  EXPECT_EQ(parse_retry_after("0", now), 0s);
  EXPECT_EQ(parse_retry_after(" 7 ", now), 7s);
  EXPECT_EQ(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), 20s);
  EXPECT_EQ(parse_retry_after("Sunday, 06-Nov-94 08:49:37 GMT", now), 20s);
  EXPECT_EQ(parse_retry_after("Sun Nov  6 08:49:37 1994", now), 20s);
}

TEST(Fetch, retry_after_has_a_cap_and_a_floor) {
  const base::WallTime now = at(784111777);
  EXPECT_EQ(parse_retry_after("86400", now), kMaxRetryAfter);
  EXPECT_EQ(parse_retry_after("99999999999999999999999", now), kMaxRetryAfter);
  EXPECT_EQ(parse_retry_after("Sun, 06 Nov 2094 08:49:37 GMT", now), kMaxRetryAfter);
  EXPECT_EQ(parse_retry_after("Sun, 06 Nov 1993 08:49:37 GMT", now), 0s);
}

TEST(Fetch, what_is_no_retry_after_is_none) {
  for (const char* const text : {"", " ", "soon", "-3", "3.5", "3 s"}) {
    const auto parsed = parse_retry_after(text, at(784111777));
    // "3 s" and the like may be read as a date of the past by the lenient parser: never as a long time.
    EXPECT_TRUE(!parsed || *parsed == 0s) << text;
  }
}

TEST(Fetch, messages_name_neither_password_nor_query) {
  EXPECT_EQ(public_url("https://user:secret@host:8443/a/b?token=x#y"), "https://host:8443/a/b");
  EXPECT_EQ(public_url("http://host"), "http://host");
  EXPECT_EQ(public_url("http://host?x=a@b"), "http://host");
}

TEST(Fetch, encodes_what_a_query_can_not_hold) {
  EXPECT_EQ(url_encode("a-Z_0.~"), "a-Z_0.~");
  EXPECT_EQ(url_encode("app in (a,b)&x=\xC3\xBC"), "app%20in%20%28a%2Cb%29%26x%3D%C3%BC");
}

TEST(Fetch, an_answer_without_success_says_what_to_do) {
  const auto error = status_error({.status = 403, .body = "{\"message\":\"no\"}\n"}, "list services");
  EXPECT_EQ(error.kind, base::ErrorKind::kPermission);
  EXPECT_EQ(error.message, R"(list services: 403 Forbidden: {"message":"no"})");
  EXPECT_FALSE(error.remedy.empty());
  EXPECT_EQ(status_error({.status = 401}, "x").kind, base::ErrorKind::kPermission);
  EXPECT_EQ(status_error({.status = 404}, "x").kind, base::ErrorKind::kNotFound);
  EXPECT_EQ(status_error({.status = 429}, "x").kind, base::ErrorKind::kUnavailable);
  EXPECT_EQ(status_error({.status = 504}, "x").kind, base::ErrorKind::kUnavailable);
  EXPECT_EQ(status_error({.status = 302}, "x").kind, base::ErrorKind::kInvalid);
}

}  // namespace
}  // namespace mesh::http
