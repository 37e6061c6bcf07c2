// SPDX-License-Identifier: Apache-2.0
#include "acme/answers.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/rfc3339.hpp"

namespace mesh::acme {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kProblemPrefix = "urn:ietf:params:acme:error:";
constexpr std::size_t kListMax = 1000;

std::unexpected<base::Error> broken(const std::string& what) {
  return base::fail(base::ErrorKind::kInvalid, "understand the issuer's answer: " + what,
                    "check that relay.acme.directory is the URL of an ACME directory");
}

std::string shown(std::string_view text) {
  std::string cut(text.substr(0, kTextMax));
  while (cut.size() == kTextMax && !cut.empty() && (static_cast<unsigned char>(cut.back()) & 0x80) != 0) cut.pop_back();
  std::ranges::replace_if(cut, [](char c) { return (c >= 0 && c < ' ') || c == 0x7f; }, ' ');
  return cut;
}

base::Result<Json> read(std::string_view body) {
  if (body.size() > kAnswerBytesMax) return broken("it has more than " + std::to_string(kAnswerBytesMax) + " bytes");
  Json json = Json::parse(body, nullptr, false);
  if (!json.is_object()) return broken("it is no JSON object");
  return json;
}

/// Empty if it is absent or no text.
std::string text(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

base::Result<std::string> url(const Json& object, const char* name) {
  std::string value = text(object, name);
  if (!is_good_url(value)) return broken(std::string("its ") + name + " is no https URL");
  return value;
}

const Json& list(const Json& object, const char* name) {
  static const Json kNone = Json::array();
  const auto found = object.find(name);
  return found != object.end() && found->is_array() && found->size() <= kListMax ? *found : kNone;
}

Problem problem_of(const Json& json) {
  Problem problem{.type = text(json, "type"), .detail = text(json, "detail")};
  if (problem.type.starts_with(kProblemPrefix)) problem.type.erase(0, kProblemPrefix.size());
  for (const Json& part : list(json, "subproblems")) {
    if (!part.is_object()) continue;
    const auto identifier = part.find("identifier");
    const std::string name =
        identifier != part.end() && identifier->is_object() ? text(*identifier, "value") + ": " : std::string();
    problem.detail += (problem.detail.empty() ? "" : "; ") + name + text(part, "detail");
    if (problem.detail.size() > kTextMax) break;
  }
  problem.type = shown(problem.type);
  problem.detail = shown(problem.detail);
  return problem;
}

std::optional<Problem> error_of(const Json& json) {
  const auto found = json.find("error");
  if (found == json.end() || !found->is_object()) return std::nullopt;
  return problem_of(*found);
}

base::Result<Status> status_of(const Json& json) {
  constexpr std::array<std::pair<std::string_view, Status>, 8> kNames = {{{"pending", Status::kPending},
                                                                          {"ready", Status::kReady},
                                                                          {"processing", Status::kProcessing},
                                                                          {"valid", Status::kValid},
                                                                          {"invalid", Status::kInvalid},
                                                                          {"deactivated", Status::kInvalid},
                                                                          {"expired", Status::kInvalid},
                                                                          {"revoked", Status::kInvalid}}};
  const std::string name = text(json, "status");
  const auto* const found = std::ranges::find(kNames, name, &std::pair<std::string_view, Status>::first);
  if (found == kNames.end()) return broken("its status is '" + shown(name) + "'");
  return found->second;
}

/// It becomes part of a URL that strangers ask for.
bool is_token(std::string_view token) {
  return !token.empty() && token.size() <= kTokenMax && std::ranges::all_of(token, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  });
}

}  // namespace

bool is_good_url(std::string_view url) {
  constexpr std::string_view kScheme = "https://";
  return url.starts_with(kScheme) && url.size() > kScheme.size() && url.size() <= kUrlMax &&
         std::ranges::all_of(url, [](char c) { return c > ' ' && c < 0x7f; });
}

base::Result<Directory> parse_directory(std::string_view body) {
  const Json json = MESH_TRY(read(body));
  Directory directory;
  directory.new_nonce = MESH_TRY(url(json, "newNonce"));
  directory.new_account = MESH_TRY(url(json, "newAccount"));
  directory.new_order = MESH_TRY(url(json, "newOrder"));
  directory.renewal_info = text(json, "renewalInfo");
  if (!is_good_url(directory.renewal_info)) directory.renewal_info.clear();
  const auto meta = json.find("meta");
  if (meta != json.end() && meta->is_object()) {
    directory.terms = shown(text(*meta, "termsOfService"));
    const auto required = meta->find("externalAccountRequired");
    directory.binding_required = required != meta->end() && required->is_boolean() && required->get<bool>();
  }
  return directory;
}

base::Result<Order> parse_order(std::string_view body) {
  const Json json = MESH_TRY(read(body));
  Order order{.status = MESH_TRY(status_of(json)), .error = error_of(json)};
  order.finalize = MESH_TRY(url(json, "finalize"));
  for (const Json& one : list(json, "authorizations")) {
    if (!one.is_string() || !is_good_url(one.get_ref<const std::string&>())) {
      return broken("an authorization of its order is no https URL");
    }
    order.authorizations.push_back(one.get<std::string>());
  }
  if (order.authorizations.empty()) return broken("its order has no authorizations");
  if (order.status == Status::kValid) order.certificate = MESH_TRY(url(json, "certificate"));
  return order;
}

base::Result<Authorization> parse_authorization(std::string_view body) {
  const Json json = MESH_TRY(read(body));
  Authorization authorization{.status = MESH_TRY(status_of(json))};
  if (authorization.status == Status::kReady || authorization.status == Status::kProcessing) {
    return broken("an authorization is neither pending nor decided");
  }
  const auto identifier = json.find("identifier");
  if (identifier != json.end() && identifier->is_object() && text(*identifier, "type") == "dns") {
    authorization.name = text(*identifier, "value");
  }
  if (authorization.name.empty()) return broken("an authorization is of no DNS name");
  for (const Json& one : list(json, "challenges")) {
    if (!one.is_object()) return broken("a challenge is no object");
    OfferedChallenge challenge{.type = text(one, "type"), .token = text(one, "token"), .error = error_of(one)};
    if (challenge.type != "http-01" && challenge.type != "tls-alpn-01") {
      authorization.challenges.push_back({.type = shown(challenge.type)});
      continue;
    }
    challenge.url = MESH_TRY(url(one, "url"));
    challenge.status = MESH_TRY(status_of(one));
    if (!is_token(challenge.token)) return broken("the token of a challenge is none");
    authorization.challenges.push_back(std::move(challenge));
  }
  return authorization;
}

base::Result<Window> parse_renewal_info(std::string_view body) {
  const Json json = MESH_TRY(read(body));
  const auto window = json.find("suggestedWindow");
  if (window == json.end() || !window->is_object()) return broken("it suggests no window");
  const auto start = base::parse_rfc3339(text(*window, "start"));
  const auto end = base::parse_rfc3339(text(*window, "end"));
  if (!start || !end || *end <= *start) return broken("the window that it suggests is none");
  return Window{*start, *end};
}

Problem parse_problem(std::string_view body) {
  const Json json = body.size() > kAnswerBytesMax ? Json() : Json::parse(body, nullptr, false);
  if (json.is_object()) return problem_of(json);
  return {.type = "", .detail = shown(body)};
}

}  // namespace mesh::acme
