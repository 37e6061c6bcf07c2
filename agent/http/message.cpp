// SPDX-License-Identifier: Apache-2.0
#include "http/message.hpp"

#include <strings.h>

#include <algorithm>
#include <boost/beast/http/status.hpp>
#include <ostream>  // boost/core/detail/string_view.hpp needs it and does not say so

namespace mesh::http {

const std::string* find_header(const Headers& headers, std::string_view name) {
  const auto found = std::ranges::find_if(headers, [name](const auto& header) {
    return header.first.size() == name.size() && ::strncasecmp(header.first.data(), name.data(), name.size()) == 0;
  });
  return found == headers.end() ? nullptr : &found->second;
}

std::string_view reason_phrase(unsigned status) {
  const auto phrase = boost::beast::http::obsolete_reason(boost::beast::http::int_to_status(status));
  return phrase == "<unknown-status>" ? "Unknown" : std::string_view(phrase.data(), phrase.size());
}

}  // namespace mesh::http
