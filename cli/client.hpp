// SPDX-License-Identifier: Apache-2.0
// Asks the agent: blocking HTTP/1.1 over its unix socket, one connection per question.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/codec.hpp"
#include "base/error.hpp"

namespace mesh::cli {

inline constexpr std::size_t kAnswerLimitBytes = 256UL << 20;  ///< a page is some 100 KiB; this stops a mad peer

using QueryParameters = std::vector<std::pair<std::string_view, std::string>>;

/// "/v1/services" and {{"service", "orders"}} to "/v1/services?service=orders"; empty values are left out.
std::string make_target(std::string_view path, const QueryParameters& parameters);

class Client {
 public:
  Client(std::string socket_path, std::chrono::milliseconds timeout)
      : socket_path_(std::move(socket_path)), timeout_(timeout) {}

  /// The body of a 2xx answer. An error body becomes that error. `kUnavailable` with a remedy if nobody answers.
  base::Result<std::string> get(const std::string& target) const { return exchange("GET", target, ""); }
  base::Result<std::string> post(const std::string& target, const std::string& body) const {
    return exchange("POST", target, body);
  }

  /// A list in pages, as one document: `items` of all pages.
  base::Result<api::Json> get_all(std::string_view path, QueryParameters parameters) const;

 private:
  base::Result<std::string> exchange(std::string_view method, const std::string& target, const std::string& body) const;

  std::string socket_path_;
  std::chrono::milliseconds timeout_;
};

struct Answer {
  int status = 0;
  std::string body;
};

/// A whole HTTP/1.1 answer (Content-Length, or to the end of the connection).
base::Result<Answer> parse_answer(std::string_view text);

}  // namespace mesh::cli
