// SPDX-License-Identifier: Apache-2.0
// What an issuer answers. Whatever is taken has to be what a client may go on with: https, tokens that are no path.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "acme/answers.hpp"
#include "acme/jws.hpp"

namespace acme = mesh::acme;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  const auto good = [](const std::string& url) {
    if (!acme::is_good_url(url)) std::abort();
  };
  if (const auto directory = acme::parse_directory(body)) good(directory->new_order);
  if (const auto order = acme::parse_order(body)) {
    good(order->finalize);
    if (order->status == acme::Status::kValid) good(order->certificate);
    for (const auto& url : order->authorizations) good(url);
  }
  if (const auto authorization = acme::parse_authorization(body)) {
    for (const auto& one : authorization->challenges) {
      if (one.url.empty()) continue;
      good(one.url);
      if (one.token.find_first_of("/. %") != std::string::npos) std::abort();
    }
  }
  if (const auto window = acme::parse_renewal_info(body); window && window->end <= window->start) std::abort();
  const acme::Problem problem = acme::parse_problem(body);
  for (const char c : problem.type + problem.detail) {
    if ((c >= 0 && c < ' ') || c == 0x7f) std::abort();
  }
  if (problem.detail.size() > acme::kTextMax) std::abort();
  if (const auto bytes = acme::base64url_decode(body);
      bytes && acme::base64url_decode(acme::base64url(*bytes)) != bytes) {
    std::abort();
  }
  return 0;
}
