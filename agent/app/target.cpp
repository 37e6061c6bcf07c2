// SPDX-License-Identifier: Apache-2.0
#include "app/target.hpp"

#include <array>
#include <charconv>
#include <utility>

#include "app/canary_runner.hpp"
#include "app/internal_source.hpp"

namespace mesh::app {
namespace {

using base::ErrorKind;

constexpr std::array<std::pair<std::string_view, std::uint16_t>, 6> kSchemes = {
    {{"http", 80}, {"https", 443}, {"redis", 6379}, {"postgres", 5432}, {"postgresql", 5432}, {"grpc", 443}}};

std::optional<std::uint16_t> parse_port(std::string_view text) {
  unsigned port = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (ec != std::errc{} || end != text.data() + text.size() || port < 1 || port > 65535) return std::nullopt;
  return static_cast<std::uint16_t>(port);
}

/// The authority of a URL, and the port its scheme implies.
base::Result<std::string> authority_of(std::string_view url, std::optional<std::uint16_t>& default_port) {
  const auto separator = url.find("://");
  const std::string_view scheme = url.substr(0, separator);
  for (const auto& [name, port] : kSchemes) {
    if (name == scheme) default_port = port;
  }
  std::string_view authority = url.substr(separator + 3);
  authority = authority.substr(0, authority.find_first_of("/?#"));
  if (const auto at = authority.rfind('@'); at != std::string_view::npos) authority.remove_prefix(at + 1);
  if (authority.empty()) {
    return base::fail(ErrorKind::kInvalid, "parse '" + std::string(url) + "': the URL has no host",
                      "write it as http://orders/ or http://240.64.0.10:80/");
  }
  return std::string(authority);
}

}  // namespace

base::Result<Target> Target::parse(std::string_view text) {
  std::optional<std::uint16_t> default_port;
  std::string rest(text);
  if (text.find("://") != std::string_view::npos) rest = MESH_TRY(authority_of(text, default_port));
  if (rest.empty())
    return base::fail(ErrorKind::kInvalid, "parse the target: it is empty", "give NAME, NAME:PORT, ADDR:PORT or a URL");

  Target target;
  if (const auto address = base::SocketAddress::parse(rest)) {
    target.address = *address;
    return target;
  }
  const bool bracketed = rest.front() == '[' && rest.back() == ']';
  if (const auto ip = base::IpAddress::parse(bracketed ? rest.substr(1, rest.size() - 2) : rest)) {
    if (!default_port) {
      return base::fail(ErrorKind::kInvalid, "parse '" + rest + "': the port is missing",
                        "write it as " + base::SocketAddress{*ip, 80}.to_string());
    }
    target.address = base::SocketAddress{*ip, *default_port};
    return target;
  }
  target.port = default_port;
  if (const auto colon = rest.rfind(':'); colon != std::string::npos) {
    target.port = parse_port(std::string_view(rest).substr(colon + 1));
    if (!target.port) {
      return base::fail(ErrorKind::kInvalid, "parse '" + rest + "': the port is not a number from 1 to 65535",
                        "write it as orders:80");
    }
    rest.resize(colon);
  }
  target.name = rest;
  return target;
}

bool Target::matches(const model::Service& service) const {
  if (address) return service.frontend.address == *address;
  return service.name == name && (!port || service.frontend.address.port == *port);
}

base::Result<std::vector<model::ServicePtr>> find_services(const model::Snapshot& snapshot, const Target& target) {
  std::vector<model::ServicePtr> found;
  std::string other_ports;
  std::string near;
  for (const auto& service : snapshot.services) {
    if (service->source == kInternalSource && !target.address) continue;
    if (target.matches(*service)) found.push_back(service);
    if (target.address) continue;
    if (service->name == target.name) other_ports += " " + service->frontend.to_string();
    if (near.empty() && !target.name.empty() && service->name.find(target.name) != std::string::npos)
      near = service->name;
  }
  if (!found.empty() || target.address) return found;
  if (!other_ports.empty()) {
    return base::fail(ErrorKind::kNotFound,
                      "find service " + target.name + ":" + std::to_string(*target.port) + ": it has no such port",
                      "it has" + other_ports);
  }
  return base::fail(ErrorKind::kNotFound, "find service '" + target.name + "': no service has this name",
                    near.empty() ? "`meshctl services` lists them" : "did you mean '" + near + "'?");
}

}  // namespace mesh::app
