// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mesh::http {

using Headers = std::vector<std::pair<std::string, std::string>>;

/// The first header of that name, in any case; null if there is none.
[[nodiscard]] const std::string* find_header(const Headers& headers, std::string_view name);

/// As a server sees it: whole, within its limits.
struct Request {
  std::string method;  ///< "GET"
  std::string target;  ///< "/v1/status?watch=1"
  Headers headers;
  std::string body;
  bool keep_alive = true;  ///< The client wants to send another one on this connection.
};

struct Response {
  unsigned status = 200;
  std::string content_type = "application/json";  ///< Left out if empty.
  Headers headers;                                ///< Beside Content-Type, Content-Length and Connection.
  std::string body;
};

/// The standard phrase: "Not Found"; "Unknown" for what has none.
[[nodiscard]] std::string_view reason_phrase(unsigned status);

}  // namespace mesh::http
