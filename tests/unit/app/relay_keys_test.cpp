// SPDX-License-Identifier: Apache-2.0
#include "app/relay_keys.hpp"

#include <gtest/gtest.h>

#include "app/config.hpp"
#include "app/relay_keeper.hpp"
#include "app/relay_ports.hpp"

namespace mesh::app {
namespace {

constexpr std::string_view kTls = "tls: {certificates: [{certificate: /c/shop.crt, key: /c/shop.key}]}";

LoadResult parse(const std::string& listeners) {
  return parse_config({{"meshd.yaml", "meshd.yaml",
                        "apiVersion: meshd/v1\nagent: {cgroups: [/a]}\nrelay:\n  listeners:\n" + listeners}});
}

std::string first_error(const std::string& listeners) {
  const LoadResult result = parse(listeners);
  return result.good() ? "" : result.errors.front().message;
}

TEST(RelayKeys, read_back_what_they_wrote) {
  const LoadResult result = parse(
      "    - name: shop\n      address: \"[::]:443\"\n      service: web\n"
      "      routes: [{sni: \"*.Example.com\", service: \"orders:443\"}]\n"
      "      proxy_protocol: {accept: true}\n      limits: {connections: 7, idle_timeout: 90s}\n      " +
      std::string(kTls) + "\n    - {name: raw, address: \"10.0.0.1:8443\", mode: passthrough, service: db}\n");
  ASSERT_TRUE(result.good()) << result.error().to_string();
  const relay::Settings& settings = result.config.relay;
  ASSERT_EQ(settings.listeners.size(), 2U);
  EXPECT_EQ(settings.listeners[0].routes[0].sni, "*.example.com");
  EXPECT_EQ(settings.listeners[0].tls.certificates[0].key, "/c/shop.key");
  EXPECT_TRUE(settings.listeners[0].proxy_protocol.accept);
  EXPECT_EQ(settings.listeners[0].limits.idle_timeout, std::chrono::seconds(90));
  EXPECT_EQ(settings.listeners[1].mode, relay::Mode::kPassthrough);
  const auto again = parse_relay_settings(encode_relay_settings(settings));
  ASSERT_TRUE(again) << again.error().to_string();
  EXPECT_EQ(*again, settings);
}

TEST(RelayKeys, refuse_listeners_that_can_not_work) {
  const std::string tls(kTls);
  EXPECT_EQ(first_error("    - {name: a, address: \"10.0.0.1:1\", " + tls + "}\n"), "listener a leads nowhere");
  EXPECT_EQ(first_error("    - {name: a, address: \"10.0.0.1:1\", service: web}\n"), "listener a has no certificate");
  EXPECT_EQ(first_error("    - {name: a, address: \"10.0.0.1:1\", service: web, mode: passthrough, " + tls + "}\n"),
            "listener a passes TLS through and has a certificate");
  EXPECT_EQ(first_error("    - {name: a, address: \"10.0.0.1:1\", service: web, " + tls +
                        "}\n    - {name: b, address: \"10.0.0.1:1\", service: web, " + tls + "}\n"),
            "listeners a and b have one address");
  EXPECT_EQ(
      first_error("    - {name: a, address: \"10.0.0.1:1\", routes: [{sni: \"a b\", service: web}], " + tls + "}\n"),
      "'a b' is no name that a client can ask for");
}

model::ServiceRoutePtr make_route(const std::string& name, const std::string& address) {
  auto service = std::make_shared<model::Service>();
  service->name = name;
  service->frontend.address = *base::SocketAddress::parse(address);
  service->algorithm = model::Algorithm::kMaglev;
  service->endpoints = {{.address = *base::SocketAddress::parse("10.0.0.1:80")},
                        {.address = *base::SocketAddress::parse("10.0.0.2:80")}};
  auto route = std::make_shared<model::ServiceRoute>();
  route->service = std::move(service);
  route->routes = {{1, 5}};
  return route;
}

TEST(RelayServices, are_those_that_listeners_name_as_they_are_routed) {
  model::RoutingTable table;
  table.services = {make_route("web", "240.0.0.1:80"), make_route("db", "240.0.0.2:1"), make_route("db", "240.0.0.2:2"),
                    make_route("other", "240.0.0.3:80")};
  relay::Settings settings;
  settings.listeners.push_back({.name = "a", .service = "web", .routes = {{"x", "db:2"}, {"y", "db"}, {"z", "none"}}});
  const auto services = relay_services(settings, table);
  ASSERT_EQ(services.size(), 4U);
  EXPECT_EQ(services[0].name, "db");
  EXPECT_NE(services[0].error.find("db:1"), std::string::npos) << services[0].error;
  EXPECT_EQ(services[1].name, "db:2");
  EXPECT_EQ(services[1].error, "");
  EXPECT_EQ(services[2].error, "there is no service none for TCP");
  EXPECT_EQ(services[3], (api::RelayService{.name = "web",
                                            .algorithm = "maglev",
                                            .maglev_size = 4093,
                                            .endpoints = {{"10.0.0.2:80", 5}},
                                            .full_name = "web:80",
                                            .frontend = "240.0.0.1:80"}));
}

LoadResult parse_mesh(const std::string& mesh) {
  return parse_config(
      {{"meshd.yaml", "meshd.yaml", "apiVersion: meshd/v1\nagent: {cgroups: [/a]}\nrelay:\n  mesh: " + mesh + "\n"}});
}

std::string mesh_error(const std::string& mesh) {
  const LoadResult result = parse_mesh(mesh);
  return result.good() ? "" : result.errors.front().message;
}

const std::string kMeshWhere = "address: \"0.0.0.0:15008\", identity: {folder: /id}";
const std::string kMeshTrust = "trust: [{trust_domain: a.test, bundle: /ca.crt, crl: /ca.crl}]";

TEST(RelayMeshKeys, read_back_what_they_wrote) {
  const LoadResult result = parse_mesh("{" + kMeshWhere + ", " + kMeshTrust +
                                       ", services: [{service: web, allow: [\"spiffe://a.test/shop/*\"], dry_run: "
                                       "true}], limits: {connections: 9}}");
  ASSERT_TRUE(result.good()) << result.error().to_string();
  const relay::MeshSettings& mesh = result.config.relay.mesh;
  EXPECT_EQ(mesh.address.to_string(), "0.0.0.0:15008");
  EXPECT_EQ(mesh.trust[0].crl, "/ca.crl");
  EXPECT_TRUE(mesh.services[0].dry_run);
  EXPECT_EQ(mesh.limits.connections, 9U);
  EXPECT_EQ(*parse_relay_settings(encode_relay_settings(result.config.relay)), result.config.relay);
}

TEST(RelayMeshKeys, without_any_are_read_back_too) {
  EXPECT_EQ(*parse_relay_settings(encode_relay_settings({})), relay::Settings{});
}

TEST(RelayMeshKeys, refuse_what_can_not_work) {
  EXPECT_EQ(mesh_error("{" + kMeshWhere + "}"), "believes nobody");
  EXPECT_EQ(mesh_error("{address: \"0.0.0.0:15008\", " + kMeshTrust + "}"), "has no identity of this node");
  EXPECT_EQ(mesh_error("{identity: {folder: /id}, " + kMeshTrust + "}"), "has no address");
  const auto service = [](const std::string& keys) {
    return mesh_error("{" + kMeshWhere + ", " + kMeshTrust + ", services: [{service: web, " + keys + "}]}");
  };
  EXPECT_EQ(service("allow: []"), "names between 1 and 1000 identities");
  EXPECT_EQ(service("allow: [\"spiffe://A.test/x\"]"),
            "'spiffe://A.test/x': a trust domain is of a-z 0-9 - . _, in lower case");
  EXPECT_EQ(mesh_error("{" + kMeshWhere + ", trust: [{trust_domain: \"a b\", bundle: /b}]}"),
            "a trust domain is of a-z 0-9 - . _, in lower case");
  EXPECT_EQ(mesh_error("{" + kMeshWhere +
                       ", trust: [{trust_domain: a.test, bundle: /b}, {trust_domain: a.test, bundle: /c}]}"),
            "has two bundles of trust domain a.test");
}

TEST(RelayMeshKeys, plaintext_is_permitted_until_a_day_only) {
  const auto service = [](const std::string& keys) {
    return parse_mesh("{" + kMeshWhere + ", " + kMeshTrust +
                      ", services: [{service: web, allow: [\"spiffe://a.test/x\"], " + keys + "}]}");
  };
  const auto error = [&](const std::string& keys) { return service(keys).errors.at(0).message; };
  const LoadResult result = service("plaintext: permissive, permissive_until: 2026-12-31");
  ASSERT_TRUE(result.good()) << result.error().to_string();
  EXPECT_EQ(result.config.relay.mesh.services[0].plaintext, relay::Plaintext::kPermissive);
  EXPECT_EQ(result.config.relay.mesh.services[0].permissive_until, "2026-12-31");
  EXPECT_EQ(*parse_relay_settings(encode_relay_settings(result.config.relay)), result.config.relay);
  EXPECT_TRUE(service("plaintext: refuse").good());
  EXPECT_EQ(error("plaintext: permissive"), "takes plaintext to service web and does not say until when");
  EXPECT_EQ(error("permissive_until: 2026-12-31"),
            "says until when plaintext to service web is taken, and not that it is");
  EXPECT_EQ(error("plaintext: permissive, permissive_until: 2026-02-30"), "'2026-02-30' is no day and no moment");
  EXPECT_EQ(error("plaintext: permissive, permissive_until: soon"), "'soon' is no day and no moment");
}

TEST(RelayMeshKeys, a_node_may_have_clients_only) {
  EXPECT_EQ(mesh_error("{" + kMeshTrust + ", port: 15009}"), "");
  EXPECT_EQ(mesh_error("{" + kMeshTrust + ", services: [{service: web, allow: [\"spiffe://a.test/x\"]}]}"),
            "has services and no address");
}

TEST(RelayIdentityKeys, say_whose_identity_it_is) {
  const auto parse = [](const std::string& keys) {
    return parse_config({{"f", "f",
                          "apiVersion: meshd/v1\nagent: {cgroups: [/a]}\nrelay: {identities: [{" + keys +
                              "}], mesh: {" + kMeshTrust + "}}\n"}});
  };
  const auto error = [&](const std::string& keys) {
    const auto result = parse(keys);
    return result.good() ? "" : result.errors.front().message;
  };
  const std::string rest = "id: \"spiffe://a.test/shop\", identity: {folder: /shop}";
  const auto result = parse(rest + ", cgroup: /apps, unit: shop.service, user: 1000");
  ASSERT_TRUE(result.good()) << result.error().to_string();
  const relay::ClientIdentity& one = result.config.relay.identities.at(0);
  EXPECT_EQ(one, (relay::ClientIdentity{.id = "spiffe://a.test/shop",
                                        .cgroup = "/apps",
                                        .unit = "shop.service",
                                        .user = 1000,
                                        .identity = {.folder = "/shop"}}));
  EXPECT_EQ(*parse_relay_settings(encode_relay_settings(result.config.relay)), result.config.relay);
  EXPECT_EQ(error(rest), "does not say whose identity it is");
  EXPECT_EQ(error(rest + ", unit: shop.slice"), "'shop.slice' is no unit that has processes");
  EXPECT_EQ(error(rest + ", cgroup: apps"), "'apps' is not a path below the cgroup2 mount");
  EXPECT_EQ(error(rest + ", cgroup: /apps/../other"), "'/apps/../other' is not a path below the cgroup2 mount");
  EXPECT_EQ(parse(rest + ", cgroup: //apps/shop/").config.relay.identities.at(0).cgroup, "/apps/shop");
  EXPECT_EQ(error("id: \"spiffe://a.test/x\", user: 0, identity: {certificate: /c}"), "has no certificate");
  EXPECT_EQ(error("id: \"spiffe://a.test\", user: 0, identity: {folder: /x}"),
            "'spiffe://a.test': names a trust domain and no workload");
}

TEST(RelayIdentityKeys, need_somebody_to_believe) {
  const relay::Settings settings{
      .identities = {{.id = "spiffe://a.test/shop", .user = 0, .identity = {.folder = "/shop"}}}};
  const auto refused = parse_relay_settings(encode_relay_settings(settings));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().to_string().find("relay.mesh.trust is missing"), std::string::npos)
      << refused.error().to_string();
  const LoadResult result = parse_config(
      {{"f", "f",
        "apiVersion: meshd/v1\nagent: {cgroups: [/a]}\nrelay: {identities: [{id: \"spiffe://a.test/shop\", "
        "user: 0, identity: {folder: /shop}}]}\n"}});
  ASSERT_FALSE(result.good());
  EXPECT_EQ(result.errors.front().message, "has identities and nobody to believe: relay.mesh.trust is missing");
}

TEST(RelayKeeper, a_service_of_the_mesh_has_all_its_endpoints_used_or_not) {
  relay::Settings settings;
  settings.mesh.services = {{.service = "web", .allow = {"spiffe://a.test/x"}}};
  model::RoutingTable table;
  table.services = {make_route("web", "240.64.0.1:80")};
  const auto services = relay_services(settings, table);
  ASSERT_EQ(services.size(), 1U);
  EXPECT_EQ(services[0].full_name, "web:80");
  EXPECT_EQ(services[0].endpoints.size(), 1U);
  EXPECT_EQ(services[0].members, (std::vector<std::string>{"10.0.0.1:80", "10.0.0.2:80"}));
}

/// One of these, which applications reach by TLS.
model::ServiceRoutePtr with_tls(const model::ServiceRoutePtr& route, const model::TlsPolicy& tls) {
  auto service = std::make_shared<model::Service>(*route->service);
  service->tls = std::make_shared<const model::TlsPolicy>(tls);
  auto made = std::make_shared<model::ServiceRoute>(*route);
  made->service = std::move(service);
  return made;
}

TEST(RelayServices, a_listener_that_ends_tls_does_not_lead_to_a_service_that_must_have_it) {
  model::RoutingTable table;
  table.services = {with_tls(make_route("web", "240.0.0.1:80"), {})};
  relay::Settings settings;
  settings.listeners.push_back({.name = "a", .mode = relay::Mode::kPassthrough, .service = "web"});
  EXPECT_EQ(relay_services(settings, table).at(0).error, "");
  settings.listeners.push_back({.name = "b", .mode = relay::Mode::kTerminate, .service = "web"});
  EXPECT_NE(relay_services(settings, table).at(0).error.find("has tls"), std::string::npos);
  EXPECT_TRUE(relay_services(settings, table).at(0).endpoints.empty());
}

TEST(RelayOutbound, says_where_connections_come_and_how_tls_is_spoken) {
  auto table = std::make_shared<model::RoutingTable>();
  table->services = {make_route("plain", "240.0.0.1:80"),
                     with_tls(make_route("web", "240.0.0.2:443"), {.server_name = "web.test", .ca = "/ca.pem"}),
                     with_tls(make_route("x.test", "240.0.0.3:443"), {})};
  const auto outbound = relay_outbound(*table, *RelayPorts(15400).stand_in(table));
  ASSERT_EQ(outbound.size(), 2U);
  EXPECT_EQ(outbound[0].name, "web:443");
  EXPECT_EQ(outbound[0].frontend, "240.0.0.2:443");
  EXPECT_EQ(outbound[0].listen, "127.0.0.1:15400");
  EXPECT_EQ(outbound[0].tls,
            (api::RelayTls{.mode = "originate", .server_name = "web.test", .ca = "/ca.pem", .min_version = "1.2"}));
  EXPECT_EQ(outbound[0].service.endpoints, (std::vector<api::RelayEndpoint>{{"10.0.0.2:80", 5}}));
  EXPECT_EQ(outbound[1].tls.server_name, "x.test") << "the service's own name";
  table->services = {with_tls(make_route("web", "240.0.0.2:443"),
                              {.mode = model::TlsMode::kMutual, .server_ids = {"spiffe://a.test/node/*"}})};
  table = std::make_shared<model::RoutingTable>(*table);
  EXPECT_EQ(relay_outbound(*table, *RelayPorts(15400).stand_in(table)).at(0).tls,
            (api::RelayTls{.mode = "mutual", .server_ids = {"spiffe://a.test/node/*"}}));
}

}  // namespace
}  // namespace mesh::app
