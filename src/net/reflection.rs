//! Reflection, so that grpcurl needs no files: v1, and v1alpha for older tools.

use tonic::service::Routes;
use tonic_reflection::server::{Builder, Error};

use crate::proto;

/// Standard services that are always there, reflection itself among them.
const STANDARD: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// Adds reflection that lists the services of ours named, and the standard ones.
pub(crate) fn add(routes: Routes, services: &[&str]) -> Result<Routes, Error> {
    let builder = || {
        let builder = Builder::configure()
            .include_reflection_service(false)
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // Without the types of error details, grpcurl shows those as base64.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET);
        services.iter().chain(&STANDARD).fold(builder, |builder, name| builder.with_service_name(*name))
    };
    Ok(routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?))
}
